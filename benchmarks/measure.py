"""What a benchmark reports, and the arithmetic that all of them share."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One figure, and how it compares.

    ``ratio`` is ``value`` over the baseline's, None when ``baseline`` is empty. ``met`` is None where there is
    no goal to meet, only something worth watching.
    """

    name: str
    value: float
    unit: str
    baseline: str
    ratio: float | None
    goal: str
    met: bool | None


@dataclass
class Elapsed:
    """How long the body of `timed` took; ``seconds`` is 0 until it has ended."""

    seconds: float = 0.0

    @property
    def ms(self) -> float:
        """The same in milliseconds."""
        return self.seconds * 1000


@contextmanager
def timed() -> Iterator[Elapsed]:
    """``with timed() as took: …`` then ``took.seconds``, also when the body raises."""
    elapsed = Elapsed()
    started = time.perf_counter()
    try:
        yield elapsed
    finally:
        elapsed.seconds = time.perf_counter() - started


def percentile(values: Sequence[float], percent: float) -> float:
    """The ``percent``-th percentile by the nearest-rank method: a value that was really measured.

    Raises ValueError when there are no values, or ``percent`` is not in 0…100.
    """
    if not values:
        raise ValueError("a percentile of no values")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is 0 to 100, not {percent}")
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


def at_least(name: str, value: float, unit: str, *, baseline: str, against: float, times: float) -> Measure:
    """A measure whose goal is ``value ≥ times × against``, where ``baseline`` says what ``against`` is."""
    ratio = value / against
    return Measure(name, value, unit, baseline, ratio, f"≥ {times:g}×", ratio >= times)


def at_most(name: str, value: float, unit: str, *, baseline: str, against: float, times: float) -> Measure:
    """A measure whose goal is ``value ≤ times × against``, where ``baseline`` says what ``against`` is."""
    ratio = value / against
    return Measure(name, value, unit, baseline, ratio, f"≤ {times:g}×", ratio <= times)


def at_most_more(name: str, value: float, unit: str, *, baseline: str, against: float, more: float) -> Measure:
    """A measure whose goal is ``value ≤ against + more``, where ``baseline`` says what ``against`` is."""
    goal = f"≤ {more:g} {unit} more"
    return Measure(name, value, unit, baseline, value / against, goal, value - against <= more)


def beside(name: str, value: float, unit: str, *, baseline: str, against: float) -> Measure:
    """A measure with its ratio to ``against``, which ``baseline`` describes, and no goal."""
    return Measure(name, value, unit, baseline, value / against, "", None)


def below(name: str, value: float, unit: str, *, limit: float) -> Measure:
    """A measure with an absolute goal, ``value ≤ limit``, and no baseline."""
    return Measure(name, value, unit, "", None, f"≤ {limit:g} {unit}", value <= limit)


def above(name: str, value: float, unit: str, *, limit: float) -> Measure:
    """A measure with an absolute goal, ``value ≥ limit``, and no baseline."""
    return Measure(name, value, unit, "", None, f"≥ {limit:g} {unit}", value >= limit)


def watched(name: str, value: float, unit: str) -> Measure:
    """A measure that has no goal."""
    return Measure(name, value, unit, "", None, "", None)
