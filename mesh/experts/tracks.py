"""What is remembered of one expert on one peer: our requests with it, how fast it answers, how often it fails."""

import msgspec

from mesh.experts.exact import decay

# The window of both averages. Finagle's default is 10 s for calls of milliseconds; experts take seconds.
LATENCY_TAU_S = 30.0
FAILURES_TAU_S = 60.0
# The weight of one more outcome in the success rate: about the last ten count.
SUCCESS_WEIGHT = 0.2
# Failures that say nothing about the expert.
NEUTRAL = frozenset({"cancelled", "invalid"})
# How many latencies and outcomes are remembered one by one, and after how long a pause they are forgotten.
REMEMBERED_LATENCIES = 32
REMEMBERED_OUTCOMES = 16
FORGOTTEN_AFTER_S = 300.0
# How many of the newest latencies say what is usual, and from how many on they say anything.
USUAL_OF = 8
USUAL_FROM = 5


class Track(msgspec.Struct):
    """``latency_ms`` is a peak EWMA, -1 before the first measurement; ``success`` (0..1) an EWMA of outcomes.

    ``last_dispatched`` is the journal position of the last dispatch (0: never), the memory of round robin.
    ``recent_ms`` are the last latencies, ``usual_ms`` and ``p95_ms`` what they come to (-1: too few). ``outcomes`` are
    the last ``outcomes_seen``, as bits, 1 a failure, the newest the lowest, ``lates`` those that were hedged. Times are
    Unix seconds, 0: never.
    ``ejected_until`` stays until it is readmitted; ``stale`` are requests that it had when it was ejected,
    ``last_was_stale`` whether the last that came back was one of them.
    """

    in_flight: int = 0
    latency_ms: float = -1.0
    latency_at: float = 0.0
    success: float = 1.0
    success_at: float = 0.0
    consecutive_failures: int = 0
    last_failure_at: float = 0.0
    last_dispatched: int = 0
    recent_ms: list[float] = []
    usual_ms: float = -1.0
    p95_ms: float = -1.0
    outcomes: int = 0
    outcomes_seen: int = 0
    lates: int = 0
    last_outcome: str = ""
    last_outcome_ms: float = -1.0
    last_outcome_at: float = 0.0
    ejected_until: float = 0.0
    ejected_by: str = ""
    ejections: int = 0
    stale: int = 0
    last_was_stale: bool = False
    readmitted_at: float = 0.0

    @property
    def probing(self) -> int:
        """Requests that were sent to it since it was ejected, and are not back."""
        return max(0, self.in_flight - self.stale)

    @property
    def failing(self) -> float:
        """The share of failures among its last outcomes."""
        return self.outcomes.bit_count() / self.outcomes_seen if self.outcomes_seen else 0.0

    @property
    def late(self) -> float:
        """The share of its last outcomes that took longer than nearly all do."""
        return self.lates.bit_count() / self.outcomes_seen if self.outcomes_seen else 0.0

    @property
    def last_was_late(self) -> bool:
        """Whether the last outcome was one of those."""
        return bool(self.lates & 1)


def dispatched(track: Track, position: int) -> None:
    """One more of our requests is with it."""
    track.in_flight += 1
    track.last_dispatched = position


def returned(track: Track) -> None:
    """One of our requests came back, or was given up."""
    track.in_flight = max(0, track.in_flight - 1)
    track.last_was_stale = track.stale > 0
    track.stale = max(0, track.stale - 1)


def answered(track: Track, latency_ms: float, at: float, *, late: bool = False) -> None:
    """It answered after ``latency_ms``; ``at`` is the time of the event in Unix seconds, ``late``: it was hedged."""
    _note("answered", track, latency_ms, at, late=late)
    _observe_latency(track, latency_ms, at)
    _remember_latency(track, latency_ms)
    _observe_outcome(track, 1.0, at)
    track.consecutive_failures = 0


def failed(track: Track, kind: str, latency_ms: float, at: float, *, late: bool = False) -> None:
    """It gave no answer. A deadline that passed, or being taken back, says something about its speed."""
    if kind in NEUTRAL:
        _note("neutral", track, latency_ms, at, late=late, counts=late)
        if kind == "cancelled":
            _taken_back(track, latency_ms, at)
        return
    _note("failed", track, latency_ms, at, late=late)
    if kind == "expired":
        _observe_latency(track, latency_ms, at)
        _remember_latency(track, latency_ms)
    _observe_outcome(track, 0.0, at)
    if kind != "disconnected":  # losing its peer is no failure of the expert
        track.consecutive_failures += 1
    track.last_failure_at = at


def ejected(track: Track, by: str, until: float, times: int) -> None:
    """It is not asked until then, the ``times``-th time in a row."""
    track.ejected_until, track.ejected_by, track.ejections, track.stale = until, by, times, track.in_flight


def readmitted(track: Track, at: float) -> None:
    """It is asked again, and judged by what it does from now on."""
    track.ejected_until, track.ejected_by, track.stale, track.readmitted_at = 0.0, "", 0, at
    track.recent_ms, track.usual_ms, track.p95_ms = [], -1.0, -1.0
    track.outcomes = track.outcomes_seen = track.lates = track.consecutive_failures = 0


def latency_at(track: Track, now: float, prior_ms: float) -> float:
    """The expected latency: the average, which fades back to ``prior_ms`` while there is nothing new."""
    if track.latency_ms < 0:
        return prior_ms
    return prior_ms + (track.latency_ms - prior_ms) * decay(now - track.latency_at, LATENCY_TAU_S)


def success_at(track: Track, now: float) -> float:
    """The expected success rate: failures are forgotten, so that it is tried again."""
    return 1.0 - (1.0 - track.success) * decay(now - track.success_at, FAILURES_TAU_S)


def _observe_latency(track: Track, latency_ms: float, at: float) -> None:
    """Finagle's peak EWMA (`PeakEwma.Metric.observe`): a slower answer counts at once, a faster one by and by."""
    if track.latency_ms < 0 or latency_ms > track.latency_ms:
        track.latency_ms = latency_ms
    else:
        weight = decay(at - track.latency_at, LATENCY_TAU_S)
        track.latency_ms = track.latency_ms * weight + latency_ms * (1.0 - weight)
    track.latency_at = at


def _observe_outcome(track: Track, outcome: float, at: float) -> None:
    current = success_at(track, at)
    track.success = current + (outcome - current) * SUCCESS_WEIGHT
    track.success_at = at


def _taken_back(track: Track, waited_ms: float, at: float) -> None:
    """It would have taken longer than ``waited_ms``: that is news only where it was expected to be faster."""
    if waited_ms > track.latency_ms:
        _observe_latency(track, waited_ms, at)
    if waited_ms > track.usual_ms:
        _remember_latency(track, waited_ms)


def _note(outcome: str, track: Track, latency_ms: float, at: float, *, late: bool, counts: bool = True) -> None:
    """The last outcome, and whether it is one of those that are counted; what is too long ago is forgotten."""
    if track.last_outcome_at and at - track.last_outcome_at > FORGOTTEN_AFTER_S:
        track.recent_ms, track.usual_ms, track.p95_ms = [], -1.0, -1.0
        track.outcomes = track.outcomes_seen = track.lates = 0
    track.last_outcome, track.last_outcome_ms, track.last_outcome_at = outcome, latency_ms, at
    if counts:
        kept = (1 << REMEMBERED_OUTCOMES) - 1
        track.outcomes = (track.outcomes << 1 | (outcome == "failed")) & kept
        track.lates = (track.lates << 1 | late) & kept
        track.outcomes_seen = min(REMEMBERED_OUTCOMES, track.outcomes_seen + 1)


def _remember_latency(track: Track, latency_ms: float) -> None:
    track.recent_ms = [*track.recent_ms[-REMEMBERED_LATENCIES + 1 :], latency_ms]
    if len(track.recent_ms) < USUAL_FROM:
        return
    track.usual_ms = median(track.recent_ms[-USUAL_OF:])
    ordered = sorted(track.recent_ms)
    track.p95_ms = ordered[(len(ordered) * 19 - 1) // 20]


def median(values: list[float]) -> float:
    """The lower median of some values."""
    return sorted(values)[(len(values) - 1) // 2]
