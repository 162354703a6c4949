"""Whole nodes in one process: real peers, experts, offers and requests, over the memory overlay and virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from mesh.config import ExpertConfig, OverlayConfig, RoutingConfig
from mesh.events.codec import decode
from mesh.events.envelope import Event
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.node import NodeStarted
from mesh.experts.calls import Answer, Call, Emit
from mesh.experts.directory import Directory
from mesh.experts.exact import Dice
from mesh.experts.host import LocalExperts
from mesh.experts.offers import OfferBoard
from mesh.experts.remote import RemoteExperts, serve_experts
from mesh.experts.requests import Requests
from mesh.experts.state import RoutingState
from mesh.p2p.introductions import Introducer
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay import Overlay
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.peer_book import PeerBook
from mesh.p2p.peers import Peers
from tests.kit.asking import identity
from tests.kit.loop_clock import LoopClock

Work = Callable[[Call, Emit], Awaitable[str]]


class Told:
    """A backend that does as it is told."""

    features: tuple[str, ...] = ()
    model = "told 1"

    def __init__(self, work: Work) -> None:
        self.work = work

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def check(self) -> None: ...

    async def answer(self, call: Call, emit: Emit) -> Answer:
        return Answer(text=await self.work(call, emit), tokens_in=1, tokens_out=2)


def expert(name: str, *domains: str, concurrency: int = 4, queue: int = 64) -> ExpertConfig:
    return ExpertConfig(
        name=name, backend="tools", domains=list(domains or ("language",)), concurrency=concurrency, queue=queue
    )


class WholeNode:
    """A node that asks and serves; ``works`` maps the names of its experts to what they do."""

    def __init__(
        self,
        network: MemoryNetwork,
        number: int,
        works: dict[str, Work],
        *,
        configs: list[ExpertConfig] | None = None,
        routing: RoutingConfig | None = None,
        interval_s: float = 10.0,
        overlay: OverlayConfig | None = None,
        over: Overlay | None = None,
    ) -> None:
        self.identity = identity(number)
        self.id = self.identity.peer_id
        self.clock = LoopClock()
        self.state = RoutingState(self.id)
        self.store = MemoryEventStore(self.id)
        self.book = PeerBook(self.id)
        self.journal = Journal(self.id, self.store, self.clock, folds=[self.state.apply, self.book.apply])
        self.overlay = over or MemoryOverlay(network, self.id)
        self.peers = Peers(
            self.overlay,
            self.journal,
            overlay or OverlayConfig(),
            peer_id=self.id,
            name=f"node {number}",
            mesh="lab",
            clock=self.clock,
            rng_seed=number,
        )
        self.experts = LocalExperts(
            configs if configs is not None else [expert(name) for name in works],
            self.identity,
            self.journal,
            self.clock,
            make=lambda config: Told(works[config.name]),
        )
        serve_experts(self.peers, self.experts)
        self.introducer = Introducer(
            self.peers, overlay or OverlayConfig(exchange=False), own=self.id, clock=self.clock
        )
        self.offers = OfferBoard(
            self.peers,
            self.experts,
            self.journal,
            self.state,
            interval_s=interval_s,
            clock=self.clock,
            introductions=self.introducer,
        )
        self.directory = Directory(
            self.peers, self.introducer, self.experts, self.journal, self.state, clock=self.clock
        )
        self.experts.on_change = self.offers.changed
        self.requests = Requests(
            self.journal,
            self.state,
            self.experts,
            RemoteExperts(self.peers, self.journal),
            routing or RoutingConfig(),
            peer_id=self.id,
            clock=self.clock,
            make_seed=Dice(number).next,
            seek=self.directory.seek if overlay is not None and overlay.dht else None,
        )

    async def start(self) -> "WholeNode":
        await self.journal.open()
        self.journal.emit(NodeStarted(epoch=1, name="", release="", resumed_from=0, clean=True))
        await self.experts.start()
        await self.peers.start()
        await self.introducer.start(self.book)
        await self.offers.start()
        await self.directory.start()
        return self

    async def stop(self) -> None:
        await self.requests.close()
        await self.directory.stop()
        await self.offers.stop()
        await self.introducer.stop()
        await self.peers.stop()
        await self.experts.stop()
        await self.journal.close()

    def meet(self, *others: "WholeNode") -> None:
        for other in others:
            if other is not self:
                self.peers.learn(other.id, other.overlay.addresses, "mdns")

    def knows(self, other: "WholeNode") -> set[str]:
        """The experts of another node that this one has offers of."""
        return set(self.state.offers.get(other.id, ()))

    async def events(self) -> list[Event]:
        await self.journal.stored()
        return [decode(record) for record in self.store.records]


async def meet(*nodes: WholeNode) -> None:
    """All know each other, and what each serves."""
    for node in nodes:
        node.meet(*nodes)
    async with asyncio.timeout(30):
        while not all(
            node.knows(other) == {offer.expert for offer in other.experts.offers()} for node in nodes for other in nodes
        ):
            await asyncio.sleep(0.05)


def takes(rng: random.Random, mean_s: float, text: str = "done") -> Work:
    """Answers after a random time."""

    async def work(call: Call, emit: Emit) -> str:
        await asyncio.sleep(rng.expovariate(1 / mean_s))
        return text

    return work
