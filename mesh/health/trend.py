"""Trends that outliers do not bend: the Theil–Sen slope, with an interval, and when a limit is reached.

Slope: the median of the slopes between all pairs of points (Theil 1950; Sen 1968, "Estimates of the Regression
Coefficient Based on Kendall's Tau", J. Am. Stat. Assoc. 63:1379–1389). Interval: Sen's, from the normal
approximation of Kendall's statistic as in Gilbert 1987, "Statistical Methods for Environmental Pollution
Monitoring", section 16.5; ties are not corrected for, which makes it a little wider.
"""

from collections.abc import Sequence
from itertools import combinations
from math import ceil, sqrt
from statistics import median

import msgspec

# With fewer points the 95 % interval has no end.
MIN_POINTS = 5
# n points give n²/2 slopes: more points than this are thinned evenly, the last one always kept.
MAX_POINTS = 100
_Z_95 = 1.959964

Point = tuple[float, float]


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """``slope``, and its 95 % interval, are per second; ``level`` is the fitted value at the last point."""

    slope: float
    low: float
    high: float
    level: float
    points: int
    span_s: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves no doubt about the direction."""
        return self.low > 0 or self.high < 0


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the last point until a limit is reached, with the 95 % interval of the trend."""

    limit: float
    in_s: float
    earliest_s: float
    latest_s: float


def trend(points: Sequence[Point]) -> Trend | None:
    """The trend of (time in s, value) points, or None when there are fewer than MIN_POINTS distinct times."""
    kept = _thinned(sorted(points))
    slopes = _slopes(kept)
    if not slopes:
        return None
    slope = median(slopes)
    low, high = _interval(slopes, len(kept))
    last = kept[-1][0]
    level = median(y + slope * (last - x) for x, y in kept)
    return Trend(slope=slope, low=low, high=high, level=level, points=len(kept), span_s=last - kept[0][0])


def slope_of(points: Sequence[Point]) -> float | None:
    """The slope that `trend` finds, for who needs no more: the same value in half the time."""
    slopes = _slopes(_thinned(sorted(points)))
    if not slopes:
        return None
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2


def forecast(of: Trend, limit: float) -> Forecast | None:
    """When the trend reaches ``limit``; None when it moves away from it, has no clear direction, or is there."""
    gap = limit - of.level
    if not of.significant or gap * of.slope <= 0:
        return None
    fast, slow = (of.high, of.low) if of.slope > 0 else (of.low, of.high)
    return Forecast(limit=limit, in_s=gap / of.slope, earliest_s=gap / fast, latest_s=gap / slow)


def _slopes(kept: Sequence[Point]) -> list[float]:
    """Those between all pairs, in order; none when there are fewer than MIN_POINTS distinct times."""
    if len({at for at, _ in kept}) < MIN_POINTS:
        return []
    return sorted([(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(kept, 2) if x2 > x1])


def _interval(slopes: Sequence[float], n: int) -> tuple[float, float]:
    spread = _Z_95 * sqrt(n * (n - 1) * (2 * n + 5) / 18)
    rank = int(max(0.0, (len(slopes) - spread) / 2))
    return slopes[max(0, rank - 1)], slopes[-max(1, rank)]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    step = ceil(len(points) / MAX_POINTS)
    return points[::-1][::step][::-1] if step > 1 else points
