"""The overlay of a node that shares a process, and a `MemoryNetwork`, with others."""

import asyncio
from collections.abc import Sequence

from mesh.p2p.access import Access, Gate
from mesh.p2p.memory_network import CIRCUIT, MemoryNetwork
from mesh.p2p.overlay import (
    DialFailed,
    OverlayDown,
    OverlayFact,
    OverlayHandler,
    Provider,
    Restarted,
    Stream,
    StreamRefused,
)


class MemoryOverlay:
    """One node's overlay on a `MemoryNetwork`. See `mesh.p2p.overlay.Overlay`."""

    def __init__(
        self, network: MemoryNetwork, peer_id: str, *, agent: str = "memory", relays: Sequence[str] = ()
    ) -> None:
        self.peer_id = peer_id
        self.relays = tuple(relays)
        self.agent = agent
        self.protocols: tuple[str, ...] = ()
        self.topics: tuple[str, ...] = ()
        self.dht = ""
        self.provided: frozenset[str] = frozenset()
        self.gate = Gate(Access())
        self._network = network
        self._handler: OverlayHandler | None = None
        self._restarts = 0

    async def start(
        self, handler: OverlayHandler, *, protocols: Sequence[str], topics: Sequence[str], dht: str = ""
    ) -> None:
        """See `Overlay.start`."""
        self._network.join(self)
        self.dht = dht
        self.protocols, self.topics = tuple(protocols), tuple(topics)
        self._handler = handler

    async def stop(self) -> None:
        """See `Overlay.stop`."""
        if self._handler is not None:
            self._network.leave(self)
            self._handler = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """See `Overlay.addresses`."""
        places = (relay for relay in self.relays if self._network.keeps_place(relay, self.peer_id))
        return (f"/memory/{self.peer_id}/p2p/{self.peer_id}", *map(self.circuit, places))

    def circuit(self, relay: str) -> str:
        """Our address through a relay."""
        return f"/memory/{relay}/p2p/{relay}{CIRCUIT}/p2p/{self.peer_id}"

    async def dial(self, peer: str, addresses: Sequence[str], timeout: float) -> None:
        """See `Overlay.dial`."""
        self._require_up()
        if (denied := self.gate.deny_peer(peer)) is not None:
            raise DialFailed(f"{denied}", remedy="`mesh peers rules` says by which rule.")
        failures = []
        for address in addresses:
            try:
                async with asyncio.timeout(timeout):
                    await self._dial_address(peer, address)
            except TimeoutError:
                failures.append(f"{address}: no answer in {timeout} s")
            except DialFailed as error:
                failures.append(error.what)
            else:
                return
        if not self._network.connected(self.peer_id, peer):
            raise DialFailed(f"no address of {peer} led to a connection ({'; '.join(failures) or 'none given'})")

    async def _dial_address(self, peer: str, address: str) -> None:
        await asyncio.sleep(self._network.delay_s() + self._network.delay_s())
        self._require_up()
        if self._network.connected(self.peer_id, peer):
            return
        await self._network.until_answered(self.peer_id, peer)
        listener = self._network.reach(self, address)
        if listener.peer_id != peer or listener is self:
            raise DialFailed(f"{address}: the peer there is {listener.peer_id}, not {peer}")
        self._network.connect(self, listener, address)

    async def disconnect(self, peer: str, reason: str) -> None:
        """See `Overlay.disconnect`."""
        self._require_up()
        self._network.disconnect(self.peer_id, peer, reason)

    async def restrict(self, access: Access) -> None:
        """See `Overlay.restrict`. Nobody has an address here: networks match nothing."""
        self.gate = Gate(access)
        for peer, denied in self._network.denied(self):
            self._network.disconnect(self.peer_id, peer, str(denied))

    async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream:
        """See `Overlay.open_stream`."""
        self._require_up()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self._network.delay_s() + self._network.delay_s())
                await self._network.until_answered(self.peer_id, peer)
        except TimeoutError:
            raise StreamRefused(f"{peer} did not answer in {timeout} s") from None
        self._require_up()
        return self._network.open_stream(self, peer, protocol)

    async def check(self) -> frozenset[str]:
        """See `Overlay.check`."""
        self._require_up()
        await self._network.until_awake(self.peer_id)
        await asyncio.sleep(self._network.late_s(self.peer_id))
        return frozenset()

    async def provide(self, names: Sequence[str]) -> None:
        """See `Overlay.provide`."""
        self._require_up()
        self.provided = frozenset(names)

    async def find_providers(self, name: str, timeout: float) -> tuple[Provider, ...]:
        """See `Overlay.find_providers`."""
        del timeout  # it answers at once
        self._require_up()
        return self._network.find_providers(self, name) if self.dht else ()

    async def publish(self, topic: str, data: bytes) -> None:
        """See `Overlay.publish`."""
        self._require_up()
        self._network.gossip(self, topic, data)

    def tell(self, *facts: OverlayFact) -> None:
        """Report to the node, if there still is one."""
        for fact in facts:
            if self._handler is not None:
                self._handler.on_fact(fact)

    def accept(self, stream: Stream) -> None:
        """Hand over a stream that a peer opened."""
        if self._handler is not None:
            self._handler.on_stream(stream)

    def hear(self, topic: str, peer: str, data: bytes) -> None:
        """Hand over a message of a topic."""
        if self._handler is not None:
            self._handler.on_gossip(topic, peer, data)

    def vanish(self) -> None:
        """Die: nothing is reported to the node any more."""
        self._handler = None

    def come_back(self, reason: str) -> None:
        """Report a restart."""
        self._restarts += 1
        self.tell(Restarted(reason, self._restarts, 0.0))

    def _require_up(self) -> None:
        if self._handler is None:
            raise OverlayDown("the overlay is not running")
