"""The vectors of a folder's passages, kept in step with its files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import structlog

from mesh.experts.backends.context.embedding import Embedding, Vectors
from mesh.experts.backends.context.passages import Passage, passages_in

SUFFIXES = (".md", ".txt")
_MAX_FILE_BYTES = 4 << 20
_MAX_FILES = 20_000

log = structlog.get_logger(__name__)


class Found(NamedTuple):
    """A passage and how close it is to the question: the cosine of their vectors, 1 is the same."""

    file: str
    line: int
    text: str
    score: float


class _Stamp(NamedTuple):
    modified_ns: int
    size: int


class _Document(NamedTuple):
    stamp: _Stamp
    passages: list[Passage]
    vectors: Vectors


class _Snapshot(NamedTuple):
    """What a search reads: never changed, only replaced, so that searches need no lock."""

    sources: list[tuple[str, Passage]]
    vectors: Vectors
    documents: int


class Index:
    """Finds passages. `refresh` is for one thread at a time, `find` for any number."""

    def __init__(self, folder: Path, embedding: Embedding) -> None:
        self._folder = folder
        self._embed = embedding
        self._documents: dict[str, _Document] = {}
        self._snapshot = self._gathered()

    @property
    def documents(self) -> int:
        """How many documents are indexed."""
        return self._snapshot.documents

    def refresh(self) -> int:
        """Index what is new or changed, forget what is gone; returns how many documents that were."""
        now = dict(self._files())
        gone = self._documents.keys() - now.keys()
        changed = [name for name, stamp in now.items() if self._stamp_of(name) != stamp]
        for name in gone:
            del self._documents[name]
        for name in changed:
            self._documents[name] = self._read(name, now[name])
        if gone or changed:
            self._snapshot = self._gathered()
        return len(gone) + len(changed)

    def find(self, question: str, top: int) -> list[Found]:
        """The ``top`` closest passages, best first; equally close ones in the order of their files."""
        snapshot = self._snapshot
        if not snapshot.sources:
            return []
        scores = snapshot.vectors @ self._embed([question])[0]
        best = np.argsort(-scores, kind="stable")[:top]
        return [
            Found(snapshot.sources[i][0], snapshot.sources[i][1].line, snapshot.sources[i][1].text, float(scores[i]))
            for i in best
        ]

    def _stamp_of(self, name: str) -> _Stamp | None:
        return self._documents[name].stamp if name in self._documents else None

    def _files(self) -> Iterator[tuple[str, _Stamp]]:
        """Documents below the folder, in a fixed order; links are not followed out of it."""
        count = 0
        for folder, subfolders, names in os.walk(self._folder):
            subfolders[:] = sorted(each for each in subfolders if not each.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() not in SUFFIXES or path.is_symlink() or count >= _MAX_FILES:
                    continue
                try:
                    status = path.stat()
                except OSError:  # gone since it was listed
                    continue
                if status.st_size <= _MAX_FILE_BYTES:
                    count += 1
                    yield str(path.relative_to(self._folder)), _Stamp(status.st_mtime_ns, status.st_size)

    def _read(self, name: str, stamp: _Stamp) -> _Document:
        try:
            text = (self._folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            log.warning("document cannot be read", document=name, error=str(error))
            text = ""
        passages = passages_in(text)
        return _Document(stamp, passages, self._vectors([f"{p.heading}\n{p.text}" for p in passages]))

    def _vectors(self, texts: list[str]) -> Vectors:
        return self._embed(texts) if texts else np.zeros((0, 0), dtype=np.float32)

    def _gathered(self) -> _Snapshot:
        names = sorted(self._documents)
        sources = [(name, passage) for name in names for passage in self._documents[name].passages]
        rows = [self._documents[name].vectors for name in names if self._documents[name].passages]
        vectors = np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)
        return _Snapshot(sources, vectors, len(names))
