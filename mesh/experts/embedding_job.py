"""What the embedding worker does: a JSON list of texts in, a JSON list of unit vectors out.

The model takes about 100 MB and a second to load, so it is in a process of its own, and only where it is needed.
"""

import json
from typing import Any

from mesh.experts.backends.context.embedding import load_embedding

_embed = load_embedding()
_embed(["warm"])
_DIGITS = 6


def embed(content: str, _options: dict[str, Any]) -> str:
    """See `mesh.experts.backends.worker.Job`."""
    texts: list[str] = json.loads(content)
    return json.dumps([[round(float(part), _DIGITS) for part in vector] for vector in _embed(texts)])
