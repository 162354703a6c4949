"""Whether our own overlay hears at all: it is asked when suddenly nobody is heard of, before anybody is accused."""

from collections.abc import Awaitable, Callable

from mesh.clock import Clock
from mesh.p2p.overlay import OverlayDown
from mesh.p2p.tasks import TaskOwner


class Hearing:
    """Asks the overlay for a sign of life by ``ask``, once at a time.

    As long as it gives none, the silence of peers is ours: a frozen or restarting overlay hears nobody.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]], tasks: TaskOwner, clock: Clock, retry_s: float) -> None:
        self._ask = ask
        self._tasks = tasks
        self._clock = clock
        self._retry_s = retry_s
        self._waiting = False

    def is_deaf(self, *, in_doubt: bool) -> bool:
        """Called at each tick: whether what was asked at an earlier one is not answered yet. Asks when in doubt."""
        if self._waiting:
            return True
        if in_doubt:
            self._waiting = True
            self._tasks.start(self._wait(), "ask the overlay for a sign of life")
        return False

    async def _wait(self) -> None:
        while True:
            try:
                await self._ask()
            except OverlayDown:
                await self._clock.sleep(self._retry_s)
            else:
                self._waiting = False
                return
