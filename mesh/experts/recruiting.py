"""Experts that are found and not configured: where they come from (a port), and who is taken in or let go. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from mesh.config import ExpertConfig
from mesh.experts.backend import Backend

# Looks without it, after which an expert is gone: one answer may be lost.
MISSED = 2
MAX_NAME = 64


class Recruit(NamedTuple):
    """An expert that was found. One whose ``identity`` changes is another expert of the same name."""

    config: ExpertConfig
    identity: str
    make: Callable[[], Backend]


class ExpertSource(Protocol):
    """Where experts come from. Adapters: `openai_models` and `nats_services` in `mesh.experts.backends`."""

    @property
    def name(self) -> str:
        """What it is called in the log."""
        ...

    async def find(self) -> Sequence[Recruit]:
        """All experts that are there now. Raises MeshError when that cannot be said."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Change(NamedTuple):
    """What a look leads to: who goes, and who comes then."""

    leave: tuple[str, ...]
    come: tuple[Recruit, ...]


class Roll:
    """Who of one source serves, and how often each was missed. Names that others have are not taken."""

    def __init__(self) -> None:
        self.serving: dict[str, str] = {}
        self._missed: dict[str, int] = {}

    def seen(self, found: Sequence[Recruit], taken: frozenset[str]) -> Change:
        """Take in a look."""
        there = {recruit.config.name: recruit for recruit in reversed(found)}
        self._missed = {name: self._missed.get(name, 0) + 1 for name in self.serving if name not in there}
        gone = [name for name, times in self._missed.items() if times >= MISSED]
        other = [name for name, identity in self.serving.items() if _differs(there, name, identity)]
        come = [
            recruit
            for name, recruit in there.items()
            if name not in taken and (name not in self.serving or name in other)
        ]
        self.serving = {name: identity for name, identity in self.serving.items() if name not in (*gone, *other)}
        self.serving |= {recruit.config.name: recruit.identity for recruit in come}
        return Change((*gone, *other), tuple(sorted(come, key=lambda recruit: recruit.config.name)))


def _differs(there: Mapping[str, Recruit], name: str, identity: str) -> bool:
    return name in there and there[name].identity != identity


def expert_name(*parts: str) -> str:
    """A name that an expert may have, out of names that others gave: lower case, ``-`` for what does not fit."""
    slugs = (re.sub(r"[^a-z0-9._-]+", "-", part.lower()).strip("-._") for part in parts)
    return ".".join(slug for slug in slugs if slug)[:MAX_NAME].rstrip("-._") or "unnamed"
