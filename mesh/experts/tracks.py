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


class Track(msgspec.Struct):
    """``latency_ms`` is a peak EWMA, -1 before the first measurement; ``success`` (0..1) an EWMA of outcomes.

    ``last_dispatched`` is the journal position of the last dispatch (0: never), the memory of round robin.
    """

    in_flight: int = 0
    latency_ms: float = -1.0
    latency_at: float = 0.0
    success: float = 1.0
    success_at: float = 0.0
    consecutive_failures: int = 0
    last_failure_at: float = 0.0
    last_dispatched: int = 0


def dispatched(track: Track, position: int) -> None:
    """One more of our requests is with it."""
    track.in_flight += 1
    track.last_dispatched = position


def returned(track: Track) -> None:
    """One of our requests came back, or was given up."""
    track.in_flight = max(0, track.in_flight - 1)


def answered(track: Track, latency_ms: float, at: float) -> None:
    """It answered after ``latency_ms``; ``at`` is the time of the event in Unix seconds."""
    _observe_latency(track, latency_ms, at)
    _observe_outcome(track, 1.0, at)
    track.consecutive_failures = 0


def failed(track: Track, kind: str, latency_ms: float, at: float) -> None:
    """It gave no answer. Only a deadline that passed says something about its speed."""
    if kind in NEUTRAL:
        return
    if kind == "expired":
        _observe_latency(track, latency_ms, at)
    _observe_outcome(track, 0.0, at)
    track.consecutive_failures += 1
    track.last_failure_at = at


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
