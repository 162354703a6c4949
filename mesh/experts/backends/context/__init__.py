"""Passages out of a folder of documents, found by meaning: static embeddings (wordllama), no network, no GPU."""

import asyncio
import importlib.metadata
import json
from pathlib import Path

from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Kind, Options
from mesh.experts.backends.context.embedding import Embedding, load_embedding
from mesh.experts.backends.context.index import Found, Index
from mesh.experts.backends.messages import texts_of
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

# What the mesh knows about itself: the documents that come with the package.
DOCUMENTS = Path(__file__).parents[2] / "documents"
_MAX_QUESTION = 10_000
_MAX_TOP = 20


class ContextOptions(Options):
    """``options`` of ``backend = "context"``."""

    folder: Path = Field(default=DOCUMENTS, description="Where the .md and .txt documents are, folders below included")
    top: int = Field(default=1, ge=1, le=_MAX_TOP, description="How many passages an answer holds")
    min_score: float = Field(default=0.2, ge=-1, le=1, description="Cosine similarity below which nothing was found")


class ContextBackend:
    """Answers a question with the passages that are closest to it, each with its file, line and score.

    The folder is looked at for every question: files that changed are indexed anew, the others are not.
    """

    model = "wordllama"
    features: tuple[str, ...] = ("embeddings",)

    def __init__(self, options: ContextOptions, _concurrency: int) -> None:
        self._options = options
        self._index: Index | None = None
        self._embedding: Embedding | None = None
        self._indexing = asyncio.Lock()

    async def start(self) -> None:
        """Load the embedding and index the folder. Raises MeshError when either is missing."""
        await self.check()
        embedding: Embedding = await asyncio.to_thread(load_embedding)
        self._embedding = embedding
        self.model = f"wordllama {importlib.metadata.version('wordllama')}"
        self._index = Index(self._options.folder, embedding)
        await self._refreshed()

    async def stop(self) -> None:
        """Forget the index."""
        self._index = None
        self._embedding = None

    async def check(self) -> None:
        """Raise MeshError when the folder is not there."""
        if not self._options.folder.is_dir():
            raise MeshError(
                f"the documents' folder {self._options.folder} does not exist",
                remedy="Create it, or set options.folder.",
            )

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Find passages. Options of the call: ``question`` (instead of its text) and ``top``."""
        if call.task == "embed":
            return await self._embed(call)
        question, top = self._question(call)
        index = await self._refreshed()
        found = await asyncio.to_thread(index.find, question, top)
        good = [each for each in found if each.score >= self._options.min_score]
        if not good:
            best = (
                f"the closest scores {found[0].score:.2f}, the limit is {self._options.min_score:g}"
                if found
                else "none"
            )
            message = f"nothing in {index.documents} documents is about that: {best}"
            raise AttemptFailed("invalid", message, retryable=True)
        text = "\n\n".join(_written(each) for each in good)
        await emit(text)
        return Answer(text=text, model=self.model)

    async def _embed(self, call: Call) -> Answer:
        texts = texts_of(call)
        assert self._embedding is not None
        vectors = await asyncio.to_thread(self._embedding, texts)
        text = json.dumps([[round(float(number), 7) for number in row] for row in vectors], separators=(",", ":"))
        return Answer(text=text, model=self.model, tokens_out=0)

    def _question(self, call: Call) -> tuple[str, int]:
        question, top = call.options.get("question", call.content), call.options.get("top", self._options.top)
        if not isinstance(question, str) or not question.strip():
            raise AttemptFailed("invalid", "there is no question; ask about what the documents say")
        if len(question) > _MAX_QUESTION:
            raise AttemptFailed("invalid", f"the question has {len(question)} characters, the limit is {_MAX_QUESTION}")
        if not isinstance(top, int) or not 1 <= top <= _MAX_TOP:
            raise AttemptFailed("invalid", f"top is 1 to {_MAX_TOP} passages, not {top!r}")
        return question, top

    async def _refreshed(self) -> Index:
        """The index of the folder as it is now; one call at a time looks, in a thread."""
        assert self._index is not None
        async with self._indexing:
            await asyncio.to_thread(self._index.refresh)
        return self._index


def _written(found: Found) -> str:
    return f"{found.text}\n\n— {found.file}, line {found.line} (score {found.score:.2f})"


KIND = Kind(ContextOptions, ContextBackend)
