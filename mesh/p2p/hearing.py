"""Whether, and how late, our own overlay hears: it is asked when a peer is late, before anybody is accused."""

from collections.abc import Awaitable, Callable

from mesh.clock import Clock
from mesh.p2p.liveness import Lateness
from mesh.p2p.overlay import OverlayDown
from mesh.p2p.tasks import TaskOwner

# For so many heartbeats it counts how late the overlay was: what it is late with comes in then.
_REMEMBERED_BEATS = 4


class Hearing:
    """Asks the overlay for a sign of life by ``ask``, once at a time.

    As long as it gives none, the silence of peers is ours: a frozen or restarting overlay hears nobody. One that takes
    its time, because it is starved, hears everybody so much later, and says who has spoken that it has not listened to.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[frozenset[str]]], tasks: TaskOwner, clock: Clock, heartbeat_s: float
    ) -> None:
        self._ask = ask
        self._tasks = tasks
        self._clock = clock
        self._retry_s = heartbeat_s
        self._lateness = Lateness(_REMEMBERED_BEATS * heartbeat_s)
        self._waiting = False
        self._unread: frozenset[str] = frozenset()

    def is_deaf(self, *, in_doubt: bool) -> bool:
        """Called at each tick: whether what was asked at an earlier one is not answered yet. Asks when in doubt."""
        if self._waiting:
            return True
        if in_doubt:
            self._waiting = True
            self._lateness.asked(self._clock.monotonic())
            self._tasks.start(self._wait(), "ask the overlay for a sign of life")
        return False

    def late_s(self, now: float) -> float:
        """How late what we hear may be."""
        return self._lateness.late_s(now)

    def take_unread(self) -> frozenset[str]:
        """Peers that have spoken by the last answer, as nobody has been told yet."""
        unread, self._unread = self._unread, frozenset()
        return unread

    async def _wait(self) -> None:
        while True:
            try:
                self._unread = await self._ask()
            except OverlayDown:
                await self._clock.sleep(self._retry_s)
            else:
                self._waiting = False
                self._lateness.answered(self._clock.monotonic())
                return
