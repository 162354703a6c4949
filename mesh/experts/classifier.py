"""Which domain a question belongs to, where the caller did not say: by examples, else by marks.

The choice is made once and recorded (`request.classified`); nothing classifies again when the journal is read.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from mesh.experts.domain_examples import EXAMPLES
from mesh.experts.domains import classify
from mesh.experts.embedder import Embedder, EmbedderUnavailable, Vector
from mesh.experts.queries import DOMAINS
from mesh.keeper import Keeper

# A domain is worth the mean similarity of so many of its closest examples: of 1 to 15, what does best when each of
# EXAMPLES is classified by the others.
NEAREST = 8
# Below this a question is like none of them.
MIN_SCORE = 0.06


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """What `mesh.events.vocabulary.requests.RequestClassified` records."""

    domain: str
    by: str
    scores: dict[str, float]
    note: str = ""


def nearest(question: Vector, examples: Mapping[str, Sequence[Vector]]) -> dict[str, float]:
    """What each domain is worth for a question, the best first. Pure."""
    scores = {}
    for domain, vectors in examples.items():
        closest = sorted((_product(question, vector) for vector in vectors), reverse=True)[:NEAREST]
        scores[domain] = round(sum(closest) / len(closest), 4)
    return dict(sorted(scores.items(), key=lambda one: (-one[1], one[0])))


def _product(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


class Classifier:
    """By embedding, with ``own`` examples of the operator's besides those that ship; by keywords without ``embedder``.

    Also by keywords where there is no embedding within ``patience_s``, which is said.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        own: Mapping[str, Sequence[str]] | None = None,
        *,
        default: str = "language",
        patience_s: float = 5.0,
    ) -> None:
        self._embedder = embedder
        self._texts = {
            domain: (*EXAMPLES.get(domain, ()), *(own or {}).get(domain, ())) for domain in {**EXAMPLES, **(own or {})}
        }
        self._default = default
        self._patience_s = patience_s
        self._vectors: dict[str, list[Vector]] = {}
        self._learning = Keeper("learn the domains")

    async def classify(self, content: str, time_s: float) -> Classification:
        """The domain of a question that must be answered within ``time_s``; a quarter of it at most is spent here."""
        if self._embedder is None:
            return self._by_keywords(content, "")
        try:
            async with asyncio.timeout(min(self._patience_s, time_s / 4)):
                await self._learned(self._embedder)
                (question,) = await self._embedder.embed([content])
        except TimeoutError:
            return self._by_keywords(content, "the embedding was not ready in time")
        except EmbedderUnavailable as error:
            return self._by_keywords(content, str(error)[:200])
        return self._by_embedding(question)

    async def close(self) -> None:
        """Nothing of it runs when this returns."""
        await self._learning.end()

    def _by_embedding(self, question: Vector) -> Classification:
        scores = nearest(question, self._vectors)
        best = next(iter(scores))
        if scores[best] < MIN_SCORE:
            return Classification(domain=self._default, by="default", scores=scores, note="it is like no example")
        return Classification(domain=best, by="embedding", scores=scores)

    def _by_keywords(self, content: str, note: str) -> Classification:
        found = classify(content, DOMAINS, self._default)
        return Classification(domain=found.domain, by=found.by, scores=found.scores, note=note)

    async def _learned(self, embedder: Embedder) -> None:
        """The examples are embedded once, however long that takes: a question that cannot wait leaves it to go on."""
        if self._vectors:
            return
        if self._learning.task is None or self._learning.task.done():
            self._learning.begin(self._learn(embedder))
        assert self._learning.task is not None
        await asyncio.shield(self._learning.task)

    async def _learn(self, embedder: Embedder) -> None:
        self._vectors = {domain: await embedder.embed(list(examples)) for domain, examples in self._texts.items()}
