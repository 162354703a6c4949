"""Nodes of one mesh in one process: real `Peers` over the memory overlay, with journals that a test can read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.events.envelope import Fact
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.identity import Identity
from mesh.p2p.calls import InboundCall, Reply
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay import Overlay
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.peers import Peers
from tests.kit.loop_clock import LoopClock


async def echo(call: InboundCall) -> Reply:
    return Reply(call.header, call.body)


async def until(condition: Callable[[], object], within: float = 60.0, every: float = 0.005) -> None:
    """Return once the condition holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(every)


class PeerNode:
    """One node: its journal's facts, its overlay and its peers."""

    def __init__(
        self,
        peer_id: str,
        overlay: Overlay,
        clock: Clock,
        config: OverlayConfig | None = None,
        *,
        mesh: str = "lab",
        identity: Identity | None = None,
    ) -> None:
        self.peer_id = peer_id
        self.overlay = overlay
        self.facts: list[Fact] = []
        self.journal = Journal(peer_id, MemoryEventStore(peer_id), clock)
        self.journal.listen(lambda event: self.facts.append(event.fact))
        self.peers = Peers(
            overlay,
            self.journal,
            config or OverlayConfig(),
            peer_id=peer_id,
            name=f"node {peer_id}",
            mesh=mesh,
            clock=clock,
            rng_seed=7,
            identity=identity,
        )
        self.peers.serve("echo", echo)

    def of(self, kind: str, peer: str = "") -> list[Fact]:
        """The facts of one type, in order; of one peer if it is named."""
        return [f for f in self.facts if f.type == kind and peer in ("", getattr(f, "peer", ""))]

    def kinds(self) -> list[str]:
        return [fact.type for fact in self.facts]

    async def start(self) -> None:
        await self.journal.open()
        await self.peers.start()

    async def stop(self) -> None:
        await self.peers.stop()
        await self.journal.close()


@asynccontextmanager
async def nodes(
    *names: str,
    config: OverlayConfig | None = None,
    latency_s: float = 0.0,
    clock: Clock | None = None,
    network: MemoryNetwork | None = None,
    meet: bool = True,
) -> AsyncIterator[tuple[MemoryNetwork, dict[str, PeerNode]]]:
    """Started nodes that know each other (``meet``) and are connected in pairs when the body runs."""
    network = network or MemoryNetwork(latency_s=latency_s)
    made = {name: PeerNode(name, MemoryOverlay(network, name), clock or LoopClock(), config) for name in names}
    started = []
    try:
        for node in made.values():
            await node.start()
            started.append(node)
        if meet:
            introduce(*made.values())
            await until(lambda: all(len(node.peers.connected()) == len(names) - 1 for node in made.values()))
        yield network, made
    finally:
        for node in started:
            await node.stop()


def introduce(*everyone: PeerNode) -> None:
    for node in everyone:
        for other in everyone:
            if other is not node:
                node.peers.learn(other.peer_id, other.overlay.addresses, "mdns")
