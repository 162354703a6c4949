"""What the heartbeats say about the link to a peer. Pure."""

from dataclasses import dataclass

# Weights of the newest sample, as in RFC 6298 (smoothed round trip and its variation).
_LATENCY_WEIGHT = 1 / 8
_JITTER_WEIGHT = 1 / 4
_LOSS_WEIGHT = 1 / 16


@dataclass(frozen=True)
class LinkStats:
    """A link as seen from here. Latency and jitter are of the heartbeat's round trip; -1: nothing measured yet.

    ``loss`` is the smoothed share (0..1) of heartbeats that were not answered within two intervals. ``bytes_in`` and
    ``bytes_out`` count what was carried in the ``since_s`` seconds since the figures were last read.
    ``bytes_saved`` is what compression spared both ways on the streams that there are, since they were opened.
    ``clock_skew_ms`` is how far the peer's clock is ahead of ours, give or take half a round trip.
    """

    latency_ms: float
    jitter_ms: float
    loss: float
    clock_skew_ms: float
    bytes_in: int
    bytes_out: int
    since_s: float
    in_flight: int
    bytes_saved: int = 0


class Heartbeats:
    """Pings that were sent, and what became of them."""

    def __init__(self, interval_s: float) -> None:
        self._patience_s = 2 * interval_s
        self._pending: dict[int, float] = {}
        self._sequence = 0
        self.latency_s = -1.0
        self.jitter_s = -1.0
        self.loss = 0.0
        self.clock_skew_s = 0.0

    def send(self, now: float) -> int:
        """Count a ping that goes out now; returns its sequence number."""
        self._give_up(now)
        self._sequence += 1
        self._pending[self._sequence] = now
        return self._sequence

    def answer(self, sequence: int, now: float, *, asked: float, answered: float) -> bool:
        """A pong arrived: it holds our wall clock when we asked and the peer's when it answered, in seconds.

        False when no such ping is pending: it was given up for lost, or never sent.
        """
        sent = self._pending.pop(sequence, None)
        if sent is None:
            return False
        trip = max(0.0, now - sent)
        if self.latency_s < 0:
            self.latency_s, self.jitter_s = trip, trip / 2
        else:
            self.jitter_s += _JITTER_WEIGHT * (abs(trip - self.latency_s) - self.jitter_s)
            self.latency_s += _LATENCY_WEIGHT * (trip - self.latency_s)
        self.loss -= _LOSS_WEIGHT * self.loss
        self.clock_skew_s = answered - (asked + trip / 2)
        return True

    def forget_pending(self) -> None:
        """The stream is gone, and with it the answers; that is no loss of the link."""
        self._pending.clear()

    def excuse(self, seconds: float) -> None:
        """We were not listening for ``seconds``: what is pending gets so much longer."""
        self._pending = {sequence: sent + seconds for sequence, sent in self._pending.items()}

    def _give_up(self, now: float) -> None:
        lost = [sequence for sequence, sent in self._pending.items() if now - sent > self._patience_s]
        for sequence in lost:
            del self._pending[sequence]
            self.loss += _LOSS_WEIGHT * (1 - self.loss)
