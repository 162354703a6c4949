"""One walk through the DHT towards a key: whom to ask next, and when it is over."""

from collections.abc import Iterable, Mapping

import trio

from mesh.p2p.host.kad_table import K, place_of, place_of_key

# Nobody can send us through a crowd that it made up.
MAX_ASKED = 64
MAX_STRANGERS = 24


class Lookup:
    """Asks the 20 nearest nodes that it hears of, the nearest first, until all of them have answered or failed."""

    def __init__(self, own: str, key: bytes, neighbours: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self._own = own
        self._target = place_of_key(key)
        self._nodes: dict[str, tuple[int, tuple[str, ...]]] = {}
        known = dict(neighbours)
        self._trusted = set(known)
        self._asked: set[str] = set()
        self._waiting: set[str] = set()
        self._answered: set[str] = set()
        self._failed: set[str] = set()
        self._event = trio.Event()
        self._hear(known)

    def next(self, at_a_time: int) -> list[str]:
        """Who may be asked now, the nearest first, so that ``at_a_time`` are being asked."""
        strangers = MAX_STRANGERS - len(self._asked - self._trusted)
        room = min(at_a_time - len(self._waiting), MAX_ASKED - len(self._asked))
        chosen: list[str] = []
        for peer in self._nearest():
            if peer in self._asked or len(chosen) >= room:
                continue
            if peer not in self._trusted:
                strangers -= 1
                if strangers < 0:
                    continue
            chosen.append(peer)
        return chosen

    def begin(self, peer: str) -> None:
        """It is being asked."""
        self._asked.add(peer)
        self._waiting.add(peer)

    def take(self, peer: str, closer: Mapping[str, tuple[str, ...]]) -> None:
        """It answered, and knows these; those without an address that we could dial are known to us, or of no use."""
        self._waiting.discard(peer)
        self._answered.add(peer)
        self._hear({other: addresses for other, addresses in closer.items() if addresses})
        self._event.set()

    def failed(self, peer: str) -> None:
        """It cannot be reached, or does not answer."""
        self._waiting.discard(peer)
        self._failed.add(peer)
        self._event.set()

    async def changed(self) -> None:
        """Return when somebody has answered or failed."""
        await self._event.wait()
        self._event = trio.Event()

    @property
    def done(self) -> bool:
        """Nobody is left to ask."""
        return not self._waiting and not self.next(1)

    @property
    def met_everybody(self) -> bool:
        """Fewer are there than are asked: whatever the key, they would be the same."""
        return len(self._nodes) - len(self._failed) < K

    def answered(self) -> list[str]:
        """Those of the nearest that answered."""
        return [peer for peer in self._nearest() if peer in self._answered]

    def addresses(self, peer: str) -> tuple[str, ...]:
        """Where it may be reached."""
        return self._nodes[peer][1]

    def _nearest(self) -> list[str]:
        alive = [(place ^ self._target, peer) for peer, (place, _) in self._nodes.items() if peer not in self._failed]
        return [peer for _, peer in sorted(alive)[:K]]

    def _hear(self, peers: Mapping[str, tuple[str, ...]]) -> None:
        for peer, addresses in peers.items():
            if peer != self._own and peer not in self._nodes:
                self._nodes[peer] = (place_of(peer), addresses)
