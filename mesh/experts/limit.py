"""How many calls an expert runs at once: a limit that finds out what its backend can take. Pure.

Additive increase, multiplicative decrease (Chiu and Jain 1989), once for each window of finished calls. Congestion is a
backend that says it has too much, or work that takes `TOLERANCE` times as long as it does where little is asked (the
gradient of Netflix's concurrency-limits). What that is, is learnt only from windows in which no more than half of the
limit ran, or one call: a backend that is slow because of us must not become the measure.
"""

import msgspec

TOLERANCE = 2.0
BACKOFF = 0.75
# Differences below this many milliseconds are the machine's, not the backend's.
_NOISE_MS = 10.0
_MIN_WINDOW = 8
_FORGET = 0.2


class Window(msgspec.Struct):
    """Finished calls since the limit was last looked at."""

    calls: int = 0
    work_ms: float = 0.0
    congested: int = 0
    most_running: int = 0


class Limit:
    """Between ``least`` and ``most``; begins at ``most``, which is what the operator thinks is right."""

    def __init__(self, least: int, most: int) -> None:
        self._least = min(least, most)
        self._most = most
        self._limit = float(most)
        self._window = Window()
        self.baseline_ms = -1.0
        self.recent_ms = -1.0
        self.reason = ""

    @property
    def now(self) -> int:
        """Calls that may run at once."""
        return int(self._limit)

    def finished(self, work_ms: float, running: int, *, congested: bool = False) -> bool:
        """A call ended after ``work_ms`` while ``running`` ran, itself included; returns whether the limit changed.

        ``congested``: the backend said that it had too much, or did not end in time.
        """
        window = self._window
        window.calls += 1
        window.work_ms += work_ms
        window.congested += congested
        window.most_running = max(window.most_running, running)
        if window.calls < max(_MIN_WINDOW, self.now):
            return False
        before = self.now
        self._look(window)
        self._window = Window()
        return self.now != before

    def is_slow(self, work_ms: float) -> bool:
        """Whether so many milliseconds are more than the backend takes where all is well."""
        return self.baseline_ms >= 0 and work_ms > self.baseline_ms * TOLERANCE + _NOISE_MS

    def expected_wait_s(self, ahead: int) -> float:
        """Seconds until a slot is free for a call with ``ahead`` others before it; 0 where nothing is known."""
        return max(0.0, self.recent_ms) / 1000 * (ahead + 1) / self.now

    def _look(self, window: Window) -> None:
        mean = window.work_ms / window.calls
        self.recent_ms = mean
        if window.congested * 4 >= window.calls:
            self._decrease(f"{window.congested} of {window.calls} calls were too much for the backend")
            return
        self._learn(mean, window.most_running)
        if self.is_slow(mean):
            self._decrease(f"calls take {mean:.0f} ms, and {self.baseline_ms:.0f} ms where little is asked")
        elif window.most_running >= self.now and self.now < self._most:
            self._limit = min(self._limit + 1, float(self._most))
            self.reason = f"all {window.most_running} were in use, and calls take {mean:.0f} ms"

    def _learn(self, mean: float, most_running: int) -> None:
        if self.baseline_ms < 0 or mean < self.baseline_ms:
            self.baseline_ms = mean
        elif most_running <= max(1, self.now // 2):
            self.baseline_ms += (mean - self.baseline_ms) * _FORGET

    def _decrease(self, reason: str) -> None:
        if self.now > self._least:
            self._limit = max(float(self._least), float(int(self._limit * BACKOFF)))
            self.reason = reason
