"""The phi-accrual failure detector: how surprising is it that nothing has been heard for so long? Pure.

N. Hayashibara, X. Défago, R. Yared, T. Katayama: "The φ Accrual Failure Detector", SRDS 2004. As there, the time
between heartbeats is taken as normally distributed with the mean and deviation of the last arrivals, and
φ(t) = −log10 P(a heartbeat comes later than t after the one before). φ = 3: one silence in a thousand is as long.

Two bounds that the paper leaves to its users: the deviation is kept between 0.125 and 0.4 of the heartbeat
(below, ordinary scheduling would look like death; above, death would be found late), and one whole heartbeat may get
lost before suspicion grows at all.
"""

import math
from collections import deque

WINDOW = 100
LEAST_DEVIATION = 0.125
MOST_DEVIATION = 0.4
FORGIVEN = 1.0
MOST_PHI = 300.0


class PhiDetector:
    """Suspicion of one peer that should be heard of every ``interval_s``. Times are seconds of one monotonic clock."""

    def __init__(self, interval_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._last = self._last_beat = now
        self._gaps: deque[float] = deque([interval_s], maxlen=WINDOW)
        self._sum = interval_s
        self._squares = interval_s**2

    def beat(self, now: float) -> None:
        """A heartbeat arrived."""
        gap = min(max(0.0, now - self._last_beat), self._interval_s * (1 + FORGIVEN))
        self._last_beat = now
        if len(self._gaps) == WINDOW:
            self._sum -= self._gaps[0]
            self._squares -= self._gaps[0] ** 2
        self._gaps.append(gap)
        self._sum += gap
        self._squares += gap**2
        self._last = max(self._last, now)

    def heard(self, now: float) -> None:
        """Something else arrived: a sign of life that says nothing about the rhythm."""
        self._last = max(self._last, now)

    def excuse(self, seconds: float, now: float) -> None:
        """We ourselves were not listening for ``seconds`` until ``now``: that silence is not the peer's."""
        self._last = min(now, self._last + seconds)

    def silent_s(self, now: float) -> float:
        """How long nothing has been heard, as far as we were listening."""
        return max(0.0, now - self._last)

    def phi(self, now: float) -> float:
        """The suspicion, 0 (none) to 300 (no doubt, and no larger number means anything)."""
        count = len(self._gaps)
        mean = self._sum / count
        spread = math.sqrt(max(0.0, self._squares / count - mean**2))
        deviation = self._interval_s * min(max(spread / self._interval_s, LEAST_DEVIATION), MOST_DEVIATION)
        late = (self.silent_s(now) - mean - FORGIVEN * self._interval_s) / deviation
        later = 0.5 * math.erfc(late / math.sqrt(2))
        return min(MOST_PHI, -math.log10(later)) if later > 0 else MOST_PHI
