"""Domains by examples: the real embedding against keywords, domains of one's own, and doing without."""

import asyncio

import pytest

from mesh.experts.backends.context.embedding import load_embedding
from mesh.experts.classifier import Classifier
from mesh.experts.domain_examples import EXAMPLES
from mesh.experts.domains import classify
from mesh.experts.embedder import EmbedderUnavailable, Vector
from mesh.experts.queries import DOMAINS
from tests.kit.domain_sentences import SENTENCES


class InProcess:
    """The worker's embedding, without the worker."""

    def __init__(self) -> None:
        self._embed = load_embedding()

    async def embed(self, texts: list[str]) -> list[Vector]:
        return [tuple(float(part) for part in vector) for vector in self._embed(texts)]


class Missing:
    async def embed(self, texts: list[str]) -> list[Vector]:
        raise EmbedderUnavailable("wordllama cannot be imported")


class Slow:
    async def embed(self, texts: list[str]) -> list[Vector]:
        await asyncio.sleep(1e6)
        return []


@pytest.fixture(scope="module")
def embedder() -> InProcess:
    return InProcess()


async def test_it_beats_keywords_by_far(embedder: InProcess) -> None:
    classifier = Classifier(embedder)
    found = [(await classifier.classify(text, 60)).domain == domain for domain, text in SENTENCES]
    keywords = [classify(text, DOMAINS, "language").domain == domain for domain, text in SENTENCES]
    print(f"embedding {sum(found)}, keywords {sum(keywords)} of {len(SENTENCES)}")
    assert len(SENTENCES) >= 36
    assert sum(found) >= 42
    assert sum(found) >= sum(keywords) + 15


def test_no_example_is_in_the_test_set() -> None:
    known = {text.casefold() for texts in EXAMPLES.values() for text in texts}
    assert not known & {text.casefold() for _, text in SENTENCES}
    assert set(EXAMPLES) == set(DOMAINS)


async def test_domains_of_ones_own_need_a_few_examples(embedder: InProcess) -> None:
    own = {"astronomy": ("How far is the moon?", "When is the next solar eclipse?", "What is a neutron star?")}
    found = await Classifier(embedder, own).classify("How far away is the planet Mars?", 60)
    assert (found.domain, found.by) == ("astronomy", "embedding")
    assert next(iter(found.scores)) == "astronomy"
    assert (await Classifier(embedder, own).classify("What is 3 times 14?", 60)).domain == "mathematics"


async def test_what_is_like_nothing_goes_to_the_default(embedder: InProcess) -> None:
    found = await Classifier(embedder, default="coding").classify("", 60)
    assert (found.domain, found.by) == ("coding", "default")


@pytest.mark.looptime
async def test_who_cannot_wait_until_the_examples_are_learned_leaves_that_to_go_on(embedder: InProcess) -> None:
    class Tardy(InProcess):
        def __init__(self) -> None: ...

        async def embed(self, texts: list[str]) -> list[Vector]:
            await asyncio.sleep(len(texts))
            return await embedder.embed(texts)

    classifier = Classifier(Tardy(), patience_s=10)
    assert (await classifier.classify("6 * 7 =", 60)).by == "keywords"
    await asyncio.sleep(200)
    assert (await classifier.classify("6 * 7 =", 60)).by == "embedding"


@pytest.mark.looptime
@pytest.mark.parametrize(("broken", "why"), [(Missing(), "wordllama"), (Slow(), "not ready in time"), (None, "")])
async def test_keywords_decide_where_there_is_no_embedding(broken: object, why: str) -> None:
    found = await Classifier(broken).classify("6 * 7 =", 60)  # type: ignore[arg-type]
    assert (found.domain, found.by) == ("mathematics", "keywords")
    assert why in found.note
    assert found.scores["mathematics"] > 0
