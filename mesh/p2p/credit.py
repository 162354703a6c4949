"""Flow control of one direction of one call: what the receiver has room for, and when it says so. Pure."""

from mesh.errors import PeerMisbehaved


class ReceiveWindow:
    """Counts the bytes of a call that arrived and that were consumed.

    The sender starts with ``window`` bytes of credit; more is granted once half of it has been consumed, so that
    grants are few and the sender seldom waits.
    """

    __slots__ = ("_granted", "_owed", "_step")

    def __init__(self, window: int) -> None:
        self._granted = window
        self._owed = 0
        self._step = max(1, window // 2)

    def arrive(self, size: int) -> None:
        """``size`` bytes arrived. Raises PeerMisbehaved when no credit was left for them."""
        if size > self._granted:
            raise PeerMisbehaved("over_credit", f"{size} bytes with {self._granted} bytes of credit left")
        self._granted -= size

    def consume(self, size: int) -> int:
        """``size`` bytes are out of the way; returns what to grant now (0: nothing yet)."""
        self._owed += size
        if self._owed < self._step:
            return 0
        grant, self._owed = self._owed, 0
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
