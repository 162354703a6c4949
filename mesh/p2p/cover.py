"""When calls are made that mean nothing, and how long those wait that do. Chance comes in as a generator."""

from dataclasses import dataclass
from random import Random

MAX_BYTES = 4096
# The longest pause between two covering calls, in mean pauses: the exponential distribution has no end.
_LONGEST_PAUSES = 8.0


@dataclass(frozen=True)
class Cover:
    """One call that means nothing: after ``wait_s``, so many bytes, answered by so many."""

    wait_s: float
    request_bytes: int
    answer_bytes: int


def next_cover(rng: Random, per_s: float) -> Cover:
    """The next of about ``per_s`` covering calls in a second: a Poisson process, with sizes from small to 4 KiB."""
    return Cover(min(rng.expovariate(per_s), _LONGEST_PAUSES / per_s), _size(rng), _size(rng))


def jitter(rng: Random, most_s: float) -> float:
    """How many seconds a call or an answer waits: anything up to ``most_s``, all equally likely."""
    return rng.uniform(0.0, most_s) if most_s > 0 else 0.0


def _size(rng: Random) -> int:
    return int(MAX_BYTES ** rng.random())
