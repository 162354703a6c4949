"""What an embedding worker does: a JSON list of texts in, a JSON list of unit vectors out.

Each module is one embedding. It loads its model when it is imported, which takes a second and some 100 MB: so it is
imported by a process of its own, and only where it is needed.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

_DIGITS = 6


def answer(embed: Callable[[list[str]], Iterable[Iterable[Any]]], content: str) -> str:
    """Embed the texts in ``content``; the result of a `mesh.experts.backends.worker.Job`."""
    texts: list[str] = json.loads(content)
    return json.dumps([[round(float(part), _DIGITS) for part in vector] for vector in embed(texts)])
