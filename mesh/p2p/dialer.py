"""Carries out what membership decides: dials, a few at a time, and says what failed."""

import asyncio
from collections.abc import Callable

from mesh.clock import Clock
from mesh.p2p.membership import Member, Membership
from mesh.p2p.overlay import DialFailed, Overlay, OverlayDown
from mesh.p2p.tasks import TaskOwner

_AT_A_TIME = 16
# Less than a clock can tell apart would be no pause at all, again and again.
_LEAST_PAUSE_S = 0.001

# peer, addresses, error, attempt, seconds until the next (0: none)
OnFailed = Callable[[str, tuple[str, ...], str, int, float], None]


class Dialer:
    """Dials whoever is due, until its owner ends it."""

    def __init__(
        self,
        overlay: Overlay,
        membership: Membership,
        tasks: TaskOwner,
        clock: Clock,
        *,
        timeout_s: float,
        is_connected: Callable[[str], bool],
        on_failed: OnFailed,
    ) -> None:
        self._overlay = overlay
        self._membership = membership
        self._tasks = tasks
        self._clock = clock
        self._timeout_s = timeout_s
        self._is_connected = is_connected
        self._on_failed = on_failed
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_A_TIME)

    def wake(self) -> None:
        """Membership changed: look again who is due."""
        self._changed.set()

    async def run(self) -> None:
        """Dial, for ever."""
        while True:
            self._changed.clear()
            for member in self._membership.take_due(self._clock.monotonic()):
                self._tasks.start(self._dial(member), f"dial {member.peer}")
            due = self._membership.next_due()
            pause = None if due is None else max(_LEAST_PAUSE_S, due - self._clock.monotonic())
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _dial(self, member: Member) -> None:
        peer, addresses = member.peer, member.addresses
        try:
            async with self._slots:
                if self._is_connected(peer):
                    return
                await self._overlay.dial(peer, addresses, self._timeout_s)
        except OverlayDown:
            self._membership.not_dialed(peer, self._clock.monotonic())
        except DialFailed as error:
            if not self._is_connected(peer):
                attempt, retry_in_s = self._membership.failed(peer, self._clock.monotonic())
                self._on_failed(peer, addresses, error.what, attempt, retry_in_s)
        else:
            if not self._is_connected(peer):  # it came and went
                self._membership.not_dialed(peer, self._clock.monotonic())
        finally:
            self.wake()
