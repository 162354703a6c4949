"""Who is kept out: by the operator's rules, for having misbehaved, or for having been let go a moment ago."""

import asyncio
from collections.abc import Callable, Collection, Iterable

import msgspec

from mesh.clock import Clock
from mesh.p2p.access import Access, Gate
from mesh.p2p.overlay import Overlay
from mesh.p2p.penalties import Penalties


class Door:
    """Says who may come, and has the overlay turn away all others.

    ``pause_s`` is how long a peer stays away that was let go, or that misbehaved for the first time. ``known()`` are
    the peers that would be dialled; ``on_admitted(peers)`` hears which of them may be dialled again.
    """

    def __init__(
        self,
        overlay: Overlay,
        clock: Clock,
        *,
        pause_s: float,
        known: Callable[[], Iterable[str]],
        on_admitted: Callable[[Collection[str]], None],
    ) -> None:
        self._overlay = overlay
        self._clock = clock
        self._pause_s = pause_s
        self._known = known
        self._on_admitted = on_admitted
        self._rules = Access()
        self._gate = Gate(self._rules)
        self._penalties = Penalties(pause_s)
        self._offended = asyncio.Event()
        self._let_go_at: dict[str, float] = {}

    def denies(self, peer: str) -> bool:
        """Whether the peer is neither dialled nor heard."""
        return self._gate.deny_dial(peer) is not None

    async def restrict(self, rules: Access) -> None:
        """From now on only whom ``rules`` admit is connected, dialled and heard."""
        self._rules = rules
        await self._enforce()

    async def keep_out(self, offender: str) -> None:
        """Admit the peer no more until its penalty is over."""
        self._penalties.offend(offender, self._clock.monotonic())
        await self._enforce()
        self._offended.set()

    async def run(self) -> None:
        """Admit again whose penalty is over, for ever."""
        while True:
            self._offended.clear()
            pause_s = self._penalties.next_end_in(self._clock.monotonic())
            try:
                async with asyncio.timeout(pause_s):
                    await self._offended.wait()
            except TimeoutError:
                await self._enforce()

    async def _enforce(self) -> None:
        barred = [peer for peer in self._known() if self.denies(peer)]
        cut_off = self._penalties.kept_out(self._clock.monotonic())
        access = msgspec.structs.replace(self._rules, cut_off=cut_off)
        self._gate = Gate(access)
        await self._overlay.restrict(access)
        self._on_admitted([peer for peer in barred if not self.denies(peer)])

    def let_go(self, peer: str) -> None:
        """The peer did nothing wrong; there are too many."""
        now = self._clock.monotonic()
        self._let_go_at = {p: at for p, at in self._let_go_at.items() if now - at < self._pause_s} | {peer: now}

    def stays_away_s(self, peer: str) -> float:
        """For how many seconds more a peer that was let go should stay away; 0 or less: it need not."""
        now = self._clock.monotonic()
        return self._pause_s - (now - self._let_go_at.get(peer, now - self._pause_s))
