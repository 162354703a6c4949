"""Flow control of one direction of one call: what the receiver has room for, and when it says so. Pure."""

from mesh.errors import PeerMisbehaved

# What is under way of a body while small calls share its stream: they wait behind all of it.
SHARED_BYTES = 64 * 1024
_SHARED_S = 0.1


class SmallCalls:
    """Whether small calls share a stream: one whose body needs no credit passed within the last 100 ms."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = float("-inf")

    def passed(self, now: float) -> None:
        """One arrived at ``now`` (seconds, monotonic)."""
        self._until = now + _SHARED_S

    def lately(self, now: float) -> bool:
        """Whether bodies should give way."""
        return now < self._until


class ReceiveWindow:
    """Counts the bytes of a call that arrived and that were consumed.

    The sender starts with ``window`` bytes of credit; more is granted once half of it has been consumed, so that
    grants are few and the sender seldom waits.
    """

    __slots__ = ("_granted", "_unconsumed", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._granted = window
        self._unconsumed = 0

    def arrive(self, size: int) -> None:
        """``size`` bytes arrived. Raises PeerMisbehaved when no credit was left for them."""
        if size > self._granted:
            raise PeerMisbehaved("over_credit", f"{size} bytes with {self._granted} bytes of credit left")
        self._granted -= size
        self._unconsumed += size

    def consume(self, size: int, *, shared: bool = False) -> int:
        """``size`` bytes are out of the way; returns what to grant now (0: nothing yet).

        While the stream is ``shared`` with small calls, the window is at most `SHARED_BYTES`. What was granted before
        stays granted.
        """
        self._unconsumed -= size
        window = min(self._window, SHARED_BYTES) if shared else self._window
        grant = window - self._granted - self._unconsumed
        if grant < max(1, window // 2):
            return 0
        self._granted += grant
        return grant


class Budget:
    """Room for bodies that are being received, of one peer (``parent`` given) or of all peers together."""

    def __init__(self, limit: int, parent: "Budget | None" = None) -> None:
        self.limit = limit
        self.used = 0
        self._parent = parent

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes, or nothing and return False when they don't fit."""
        if self.used + size > self.limit or (self._parent is not None and not self._parent.reserve(size)):
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self.used -= size
        if self._parent is not None:
            self._parent.release(size)
