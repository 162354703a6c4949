"""A node's own experts on backends that do as a test tells them, with a journal in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mesh.config import ExpertConfig
from mesh.events.codec import decode
from mesh.events.envelope import Event, Fact
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.requests import RequestServed
from mesh.experts.calls import Answer, Call, Emit
from mesh.experts.host import LocalExperts
from mesh.identity import Identity
from tests.kit.loop_clock import LoopClock

NODE = Identity(bytes(32))
CALLER = Identity(bytes(31) + b"\x01").peer_id

Work = Callable[[Call, Emit], Awaitable[str]]


def call(content: str = "hello", *, expert: str = "it", request: str = "r1", timeout_ms: int = 60_000) -> Call:
    return Call(request=request, expert=expert, domain="language", content=content, timeout_ms=timeout_ms)


async def nowhere(_piece: str) -> None:
    pass


class TestBackend:
    """Runs ``work`` and counts: how many at once, how many were cancelled, in which order they began."""

    features: tuple[str, ...] = ()
    __test__ = False
    model = "test 1"

    def __init__(self, work: Work) -> None:
        self.work = work
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.began: list[str] = []
        self.problem: Exception | None = None
        self.start_problem: Exception | None = None
        self.started = False

    async def start(self) -> None:
        if self.start_problem:
            raise self.start_problem
        self.started = True

    async def stop(self) -> None:
        self.started = False

    async def check(self) -> None:
        if self.problem:
            raise self.problem

    async def answer(self, call: Call, emit: Emit) -> Answer:
        self.began.append(call.request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return Answer(text=await self.work(call, emit))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def echoes(call: Call, emit: Emit) -> str:
    await emit(call.content)
    return call.content


async def hangs(_call: Call, _emit: Emit) -> str:
    await asyncio.Event().wait()
    return "never"


def takes(seconds: float) -> Work:
    async def work(call: Call, emit: Emit) -> str:
        await asyncio.sleep(seconds)
        await emit(call.content)
        return call.content

    return work


class Host:
    """LocalExperts with one expert ``it``, and what its journal holds."""

    def __init__(self, backend: TestBackend, config: ExpertConfig, store: MemoryEventStore) -> None:
        self.backend = backend
        self.store = store
        self.changes = 0
        self.journal = Journal(NODE.peer_id, store, LoopClock())
        self.experts = LocalExperts(
            [config], NODE, self.journal, LoopClock(), on_change=self._changed, make=lambda _config: backend
        )

    def _changed(self) -> None:
        self.changes += 1

    async def ask(self, call: Call, emit: Emit = nowhere) -> Answer:
        return await self.experts.ask(call, emit, caller=CALLER)

    @property
    def events(self) -> list[Event]:
        return [decode(record) for record in self.store.records]

    @property
    def facts(self) -> list[Fact]:
        return [event.fact for event in self.events]

    @property
    def served(self) -> list[RequestServed]:
        return [fact for fact in self.facts if isinstance(fact, RequestServed)]


def expert_config(*, concurrency: int = 1, queue: int = 10, name: str = "it") -> ExpertConfig:
    return ExpertConfig(name=name, backend="python", domains=["language"], concurrency=concurrency, queue=queue)


@asynccontextmanager
async def hosting(
    work: Work = echoes, *, concurrency: int = 1, queue: int = 10, store: MemoryEventStore | None = None
) -> AsyncIterator[Host]:
    host = Host(
        TestBackend(work),
        expert_config(concurrency=concurrency, queue=queue),
        store or MemoryEventStore(NODE.peer_id),
    )
    await host.journal.open()
    await host.experts.start()
    try:
        yield host
    finally:
        await host.experts.stop()
        await host.journal.close()
