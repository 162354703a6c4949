"""One node's requests over experts that do as a test tells them, on the loop's time and a journal in memory."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mesh.config import RoutingConfig
from mesh.events.codec import decode
from mesh.events.envelope import Event, Fact
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.experts import ExpertOffered, ExpertRegistered
from mesh.events.vocabulary.network import PeerConnected, PeerDisconnected
from mesh.events.vocabulary.node import NodeStarted
from mesh.experts.answers import digest, sign_answer
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.exact import Dice
from mesh.experts.requests import Requests
from mesh.experts.state import RoutingState
from mesh.identity import Identity
from tests.kit.loop_clock import LoopClock

Work = Callable[[Call, Emit], Awaitable[str]]


def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def says(text: str, after_s: float = 0.0) -> Work:
    async def work(call: Call, emit: Emit) -> str:
        await asyncio.sleep(after_s)
        return text

    return work


def fails(kind: str, message: str = "as told", after_s: float = 0.0) -> Work:
    async def work(call: Call, emit: Emit) -> str:
        await asyncio.sleep(after_s)
        raise AttemptFailed(kind, message)  # type: ignore[arg-type]

    return work


def streams(*pieces: str, then: Work | None = None, every_s: float = 0.01) -> Work:
    async def work(call: Call, emit: Emit) -> str:
        for piece in pieces:
            await asyncio.sleep(every_s)
            await emit(piece)
        return "".join(pieces) if then is None else await then(call, emit)

    return work


def hangs() -> Work:
    return says("too late", after_s=1e6)


@dataclass
class Serving:
    """An expert of one node, as its own `LocalExperts` would sign for it."""

    identity: Identity
    work: Work
    model: str = "m"
    asked: list[Call] = field(default_factory=list)
    cancelled: int = 0

    async def answer(self, call: Call, emit: Emit | None) -> Answer:
        async def nowhere(_text: str) -> None: ...

        self.asked.append(call)
        try:
            text = await self.work(call, emit or nowhere)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        signature = sign_answer(
            self.identity, request=call.request, expert=call.expert, model=self.model, digest=digest(text)
        )
        return Answer(text=text, model=self.model, signature=signature)


class SlowStore(MemoryEventStore):
    """A store whose acknowledgements can be held back."""

    def __init__(self, owner: str, records: list[Any] | None = None) -> None:
        super().__init__(owner, records)
        self.gate = asyncio.Event()
        self.gate.set()

    async def _flush(self) -> None:
        while self._queued:
            await self.gate.wait()
            await super()._flush()


class Asker:
    """A node that asks: journal, state, requests; `peers` hold the experts by (peer, expert)."""

    def __init__(self, *, config: RoutingConfig | None = None, records: list[Any] | None = None, seed: int = 7) -> None:
        self.identity = identity(1)
        self.id = self.identity.peer_id
        self.clock = LoopClock()
        self.state = RoutingState(self.id)
        self.store = SlowStore(self.id, records)
        self.journal = Journal(self.id, self.store, self.clock, folds=[self.state.apply], make_id=self._next_id)
        self.experts: dict[tuple[str, str], Serving] = {}
        self.links: dict[str, Identity] = {}
        self._ids = 0
        self._requests = 0
        self._dice = Dice(seed)
        self.requests = Requests(
            self.journal,
            self.state,
            self,
            self._Remote(self),
            config or RoutingConfig(),
            peer_id=self.id,
            clock=self.clock,
            make_seed=self._dice.next,
            make_id=self._next_request,
        )

    def _next_id(self) -> str:
        self._ids += 1
        return f"00000000-0000-7000-8000-{self._ids:012d}"

    def _next_request(self) -> str:
        self._requests += 1
        return f"request-{self._requests}"

    async def open(self) -> "Asker":
        await self.journal.open()
        self.emit(NodeStarted(epoch=1, name="asker", release="0", resumed_from=0, clean=True))
        return self

    def emit(self, fact: Fact, **keys: str) -> None:
        self.journal.emit(fact, **keys)

    # -- the world ------------------------------------------------------------------------------------------------

    def connect(self, number: int) -> str:
        other = identity(number)
        self.links[other.peer_id] = other
        self.emit(connected(other.peer_id))
        return other.peer_id

    def lose(self, peer: str, reason: str = "reset") -> None:
        self.emit(PeerDisconnected(peer=peer, connection="c", reason=reason, lasted_s=1.0))

    def offer(
        self, peer: str, expert: str, work: Work, *, domains: tuple[str, ...] = ("language",), **more: Any
    ) -> Serving:
        serving = Serving(self.links[peer], work)
        self.experts[peer, expert] = serving
        self.emit(offered(peer, expert, domains=domains, **more))
        return serving

    def serve(self, expert: str, work: Work, *, domains: tuple[str, ...] = ("language",), signer: int = 1) -> Serving:
        serving = Serving(identity(signer), work)
        self.experts[self.id, expert] = serving
        self.emit(
            ExpertRegistered(
                expert=expert, backend="python", model="m", domains=domains, concurrency=64, queue_limit=64
            )
        )
        return serving

    # -- ports ----------------------------------------------------------------------------------------------------

    async def ask(self, call: Call, emit: Emit, *, caller: str) -> Answer:
        assert caller == self.id
        return await self.experts[self.id, call.expert].answer(call, emit)

    def offers(self) -> list[ExpertOffered]:
        return []

    class _Remote:
        def __init__(self, asker: "Asker") -> None:
            self._asker = asker

        async def ask(self, peer: str, call: Call, emit: Emit | None) -> Answer:
            return await self._asker.experts[peer, call.expert].answer(call, emit)

    # -- what happened ----------------------------------------------------------------------------------------------

    async def events(self) -> list[Event]:
        await self.journal.stored()
        return [decode(record) for record in self.store.records]

    async def facts(self, request: str = "") -> list[Fact]:
        return [event.fact for event in await self.events() if not request or event.correlation == request]

    async def story(self, request: str) -> list[str]:
        return [event.type.removeprefix("request.") for event in await self.events() if event.correlation == request]

    async def outcomes(self) -> dict[str, Counter[str]]:
        ends = {"completed", "failed", "cancelled", "interrupted"}
        found: dict[str, Counter[str]] = {}
        for event in await self.events():
            kind = event.type.removeprefix("request.")
            if kind == "received":
                found.setdefault(event.correlation, Counter())
            elif kind in ends:
                found[event.correlation][kind] += 1
        return found


def connected(peer: str) -> PeerConnected:
    return PeerConnected(
        peer=peer,
        connection="c",
        address="/ip4/127.0.0.1/tcp/1",
        transport="tcp",
        direction="outbound",
        security="noise",
        muxer="yamux",
        setup_ms=1.0,
    )


def offered(peer: str, expert: str, **more: Any) -> ExpertOffered:
    fields: dict[str, Any] = {
        "model": "m",
        "domains": ("language",),
        "concurrency": 64,
        "queue_limit": 64,
        "in_flight": 0,
        "queued": 0,
        "available": True,
        "quality": 0.5,
        "valid_s": 1e6,
    }
    return ExpertOffered(peer=peer, expert=expert, **{**fields, **more})
