"""The door to wordllama: texts to unit vectors."""

import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mesh.errors import MeshError

Vectors = NDArray[np.float32]


class Embedding(Protocol):
    """Turns texts into unit vectors whose products are their similarity."""

    def __call__(self, texts: list[str]) -> Vectors:
        """One row a text; a text without any known token has a row of zeros."""
        ...


def load_embedding() -> Embedding:
    """The model inside wordllama's package: nothing is downloaded. Raises MeshError when it is missing."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        import wordllama

        package = Path(wordllama.__file__).parent
        model: Any = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
    except ImportError as error:
        raise MeshError(f"wordllama cannot be imported: {error}", remedy="Run `pip install wordllama`.") from error
    except FileNotFoundError as error:
        raise MeshError(
            f"wordllama's own model is missing: {error}", remedy="Install wordllama again: its wheel holds the model."
        ) from error
    finally:  # importing it sets up the root logger
        root.handlers[:] = handlers
        root.setLevel(level)

    def embed(texts: list[str]) -> Vectors:
        vectors: Vectors = model.embed(texts)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return unit

    return embed
