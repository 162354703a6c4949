"""Nodes that share their journals: real peers and bridges over the memory overlay, in virtual time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from mesh.config import OverlayConfig, ShareConfig
from mesh.events.codec import decode
from mesh.events.envelope import Event, Fact, Record
from mesh.events.feed import sign_batch
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.alerts import AlertRaised
from mesh.events.vocabulary.journal import SignedBatch
from mesh.events.vocabulary.node import NodeStarted
from mesh.identity import Identity
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.peers import Peers
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.sharing.bridge import Bridge
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy
from mesh.p2p.streams import our_hello
from mesh.p2p.tasks import TaskOwner
from tests.kit.asking import identity
from tests.kit.loop_clock import LoopClock
from tests.kit.records import record_of


def alert(number: int) -> AlertRaised:
    """A fact that is shared at once and can be told from others."""
    return AlertRaised(
        alert=f"disk/{number}", rule="disk", target=str(number), severity="warning", summary="full", held_s=1.0,
        evidence={"percent": 91.5},
    )  # fmt: skip


def payloads_of(key: Identity, first: int, count: int, mark: int = 0) -> list[bytes]:
    """Events of a node, one origin_seq after the other; another ``mark`` makes other events of them."""
    return [record_of(alert(1000 * mark + n), n, b"", origin=key.peer_id).payload for n in range(first, first + count)]


def feed_of(key: Identity, *sizes: int, epoch: int = 1, mark: int = 0) -> list[tuple[SignedBatch, list[bytes]]]:
    """A whole feed in batches of these sizes."""
    from mesh.events.feed import feed_genesis

    batches, first, prev = [], 1, feed_genesis(key.peer_id, epoch)
    for size in sizes:
        payloads = payloads_of(key, first, size, mark)
        batch = sign_batch(key, epoch=epoch, first=first, origin_seq=first + size - 1, prev=prev, payloads=payloads)
        batches.append((batch, payloads))
        first, prev = first + size, bytes.fromhex(batch.link)
    return batches


class BridgeNode:
    """A node that shares and takes. ``records`` are those of an earlier life."""

    def __init__(
        self,
        network: MemoryNetwork,
        number: int,
        *,
        records: list[Record] | None = None,
        config: ShareConfig | None = None,
        seal: bool = False,
    ) -> None:
        self.identity = identity(number)
        self.id = self.identity.peer_id
        self.clock = LoopClock()
        self.store = MemoryEventStore(self.id, records)
        self.config = config or ShareConfig()
        self.policy = Policy(self.id, self.config)
        self.book = FeedBook(self.id, self.policy)
        self.journal = Journal(self.id, self.store, self.clock, folds=[self.book.apply])
        self.overlay = MemoryOverlay(network, self.id)
        overlay = self._overlay_config = OverlayConfig(seal="require" if seal else "off")
        self.peers = Peers(
            self.overlay, self.journal, overlay,
            peer_id=self.id, name=f"node {number}", mesh="lab", clock=self.clock, rng_seed=number,
            identity=self.identity,
        )  # fmt: skip
        self._number = number
        self._hello = our_hello(overlay, mesh="lab", name=f"node {number}")

    async def start(self) -> "BridgeNode":
        await self.journal.open()
        self.bridge = Bridge(
            self.peers, self.journal, self.book, self.policy, self.store, self.identity, self.config, self._hello,
            clock=self.clock, rng_seed=self._number, sealing=self._sealing,
        )  # fmt: skip
        started = NodeStarted(epoch=1, name="", release="", resumed_from=self.journal.position, clean=True)
        self.journal.emit(started, subject=self.id)
        await self.peers.start()
        await self.bridge.start()
        return self

    def _sealing(self, tasks: TaskOwner) -> Sealing | None:
        if self._overlay_config.seal == "off":
            return None
        return Sealing(self.identity, self._overlay_config, self.clock, Random(self._number), tasks)

    async def stop(self) -> None:
        await self.bridge.stop()
        await self.peers.stop()
        await self.journal.close()

    def emit(self, *facts: Fact) -> None:
        for fact in facts:
            self.journal.emit(fact, subject=self.id)

    def meet(self, *others: "BridgeNode") -> None:
        for other in others:
            if other is not self:
                self.peers.learn(other.id, other.overlay.addresses, "mdns")

    def of(self, kind: str) -> list[Event]:
        """Its own events of one type."""
        return [event for event in self.events() if event.type == kind and event.origin == self.id]

    def events(self) -> list[Event]:
        return [decode(record) for record in self.store.records]

    def payloads(self, origin: str) -> list[bytes]:
        """What it holds of another node, in its order."""
        return [record.payload for record in self.store.records if decode(record).origin == origin]

    def shared(self) -> list[bytes]:
        """What it has signed for others, in order."""
        positions = [p for event in self.of("journal.shared") for p in event.fact.positions]
        return [self.store.records[position - 1].payload for position in positions]

    def holds(self, other: "BridgeNode") -> bool:
        """Whether everything that the other has shared is here."""
        return bool(other.shared()) and self.payloads(other.id) == other.shared()


@asynccontextmanager
async def bridged(
    count: int, *, config: ShareConfig | None = None, latency_s: float = 0.002
) -> AsyncIterator[tuple[MemoryNetwork, list[BridgeNode]]]:
    """Nodes that know each other."""
    network = MemoryNetwork(latency_s=latency_s)
    nodes = [await BridgeNode(network, number + 1, config=config).start() for number in range(count)]
    try:
        for node in nodes:
            node.meet(*nodes)
        yield network, nodes
    finally:
        for node in nodes:
            await node.stop()
