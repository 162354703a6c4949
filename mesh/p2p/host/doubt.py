"""Whether a peer is still there of which somebody says that it is not, as anybody could. Pure."""

_PATIENCE_S = 2.0


class Doubt:
    """A port is said to be closed: the peer is asked, and believed to be gone if it is not heard of meanwhile.

    ``until`` is when `is_confirmed` is to be asked; None while there is no doubt. Times are in seconds.
    """

    def __init__(self) -> None:
        self.until: float | None = None
        self._since = 0.0

    def raise_at(self, now: float) -> bool:
        """Somebody says so; whether the peer is to be asked, which is once for each doubt."""
        if self.until is not None:
            return False
        self._since, self.until = now, now + _PATIENCE_S
        return True

    def is_confirmed(self, now: float, heard_at: float) -> bool:
        """Whether the peer, last heard at ``heard_at``, is gone; a doubt that is over is forgotten."""
        if self.until is None or now < self.until:
            return False
        self.until = None
        return heard_at <= self._since
