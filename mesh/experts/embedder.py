"""Texts to unit vectors: what is needed of an embedding."""

from typing import Protocol

from mesh.errors import MeshError

Vector = tuple[float, ...]

# Only the beginning of a text is looked at: what it is about is said early.
MAX_CHARS = 4000


class EmbedderUnavailable(MeshError):
    """There is no embedding now; what wanted one does without and says so."""


class Embedder(Protocol):
    """Meaning as vectors, whose products are the similarity of texts."""

    async def embed(self, texts: list[str]) -> list[Vector]:
        """One unit vector a text (zeros for a text without a known word). Raises EmbedderUnavailable."""
        ...
