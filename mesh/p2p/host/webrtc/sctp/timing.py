"""When to send again: RFC 9260, section 6.3, with the bounds that WebRTC's implementations have. Pure."""

_FIRST_S = 1.0
_LEAST_S = 0.4
_MOST_S = 10.0
_MOST_TIMES = 10


class RetransmissionTimer:
    """The timer of what is under way."""

    def __init__(self) -> None:
        self._smoothed: float | None = None
        self._variation = 0.0
        self._wait_s = _FIRST_S
        self._times = 0
        self.at: float | None = None

    def start(self, now: float) -> None:
        """Something was sent; no-op while it runs."""
        if self.at is None:
            self.at = now + self._wait_s

    def stop(self) -> None:
        """Nothing is under way any more."""
        self.at = None

    def answered(self, now: float, *, outstanding: bool) -> None:
        """Something was acknowledged."""
        self.at = now + self._wait_s if outstanding else None

    def heard(self) -> None:
        """The peer is there, though it may have no room: however long that takes, it is not given up for it."""
        self._times = 0

    def measured(self, took_s: float) -> None:
        """A round trip of what was sent once."""
        if self._smoothed is None:
            self._smoothed, self._variation = took_s, took_s / 2
        else:
            self._variation = 0.75 * self._variation + 0.25 * abs(self._smoothed - took_s)
            self._smoothed = 0.875 * self._smoothed + 0.125 * took_s
        self._wait_s = min(max(self._smoothed + 4 * self._variation, _LEAST_S), _MOST_S)

    def expired(self, now: float) -> bool:
        """Wait twice as long from now on; False when it was often enough."""
        self._times += 1
        self._wait_s = min(self._wait_s * 2, _MOST_S)
        self.at = now + self._wait_s
        return self._times <= _MOST_TIMES
