"""What waits to be written to a stream, and in which order. Pure: it does no I/O and knows no time.

Small frames go at once and in order. The large bodies of different calls take turns, one frame each, as far as
the receiver's credit for the call goes: so a large or slow body never keeps the others waiting.
"""

from collections import deque
from collections.abc import Callable

from mesh.errors import PeerMisbehaved
from mesh.p2p.frames import HEADER, OVERHEAD, Kind
from mesh.p2p.messages import MAX_CREDIT

Piece = bytes | memoryview


class Lane:
    """The bytes of one call that are under credit, and the frames that must not overtake them."""

    __slots__ = ("_items", "_on_empty", "call", "credit", "queued", "turning")

    def __init__(self, call: int, credit: int) -> None:
        self.call = call
        self.credit = credit
        self.queued = 0  # bytes under credit
        self.turning = False
        self._items: deque[tuple[Kind | None, Piece]] = deque()
        self._on_empty: list[Callable[[], None]] = []

    @property
    def empty(self) -> bool:
        """Whether all has been written."""
        return not self._items

    @property
    def ready(self) -> bool:
        """Whether there is something that may be written now."""
        return bool(self._items) and (self.credit > 0 or self._items[0][0] is None)

    def when_empty(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when the last of it has been handed over."""
        self._on_empty.append(callback)

    def add(self, kind: Kind | None, data: Piece) -> None:
        """Queue bytes to be framed as ``kind`` under credit, or (None) a frame that is ready to go."""
        self._items.append((kind, data))
        self.queued += len(data) if kind is not None else 0

    def drop(self) -> None:
        """Forget what is queued: the call is over."""
        self._items.clear()
        self.queued = 0

    def next_frame(self, max_body: int, out: list[Piece]) -> int:
        """Move one frame to ``out`` and return its size. Only when `ready`."""
        kind, data = self._items[0]
        if kind is None:
            self._items.popleft()
            out.append(data)
            return len(data)
        size = min(len(data), self.credit, max_body)
        if size == len(data):
            self._items.popleft()
        else:
            whole = memoryview(data)
            self._items[0] = (kind, whole[size:])
            data = whole[:size]
        self.credit -= size
        self.queued -= size
        out.append(HEADER.pack(OVERHEAD + size, kind, self.call))
        out.append(data)
        return HEADER.size + size

    def emptied(self) -> None:
        """Tell who waits, once there is nothing left."""
        if self._on_empty and not self._items:
            callbacks, self._on_empty = self._on_empty, []
            for callback in callbacks:
                callback()


class Outbox:
    """Everything that one side of a stream has to say. ``max_body`` bounds the bodies of its frames."""

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        self._now: list[Piece] = []
        self.now_bytes = 0
        self._turns: deque[Lane] = deque()

    def __bool__(self) -> bool:
        return bool(self._now or self._turns)

    def put(self, frame: bytes) -> None:
        """Queue a small frame, ahead of every body."""
        self._now.append(frame)
        self.now_bytes += len(frame)

    def add(self, lane: Lane, kind: Kind | None, data: Piece) -> None:
        """Queue bytes of a call (see `Lane.add`)."""
        lane.add(kind, data)
        self._take_turns(lane)

    def grant(self, lane: Lane, credit: int) -> None:
        """The receiver has room for ``credit`` more bytes of the call. Raises PeerMisbehaved when it is absurd."""
        lane.credit += credit
        if lane.credit > MAX_CREDIT:
            raise PeerMisbehaved("credit_overflow", f"{lane.credit} bytes of credit for one call")
        self._take_turns(lane)

    def _take_turns(self, lane: Lane) -> None:
        if lane.ready and not lane.turning:
            lane.turning = True
            self._turns.append(lane)

    def take(self, budget: int) -> list[Piece]:
        """What to write next: all small frames, then bodies by turns until there are about ``budget`` bytes.

        However many small frames there are, a body gets its turn. Without a budget bodies get none.
        """
        out, size = self._now, min(self.now_bytes, max(0, budget - 1))
        self._now, self.now_bytes = [], 0
        while self._turns and size < budget:
            lane = self._turns.popleft()
            if lane.ready:
                size += lane.next_frame(self.max_body, out)
            lane.turning = False
            self._take_turns(lane)
            lane.emptied()
        return out
