"""The streams of the journal protocol: one for each visit to a peer, and those on which peers visit us."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from mesh.clock import Clock
from mesh.errors import PeerMisbehaved
from mesh.p2p import packing
from mesh.p2p.calling import Calling
from mesh.p2p.calls import CallFailed, Handler
from mesh.p2p.credit import Budget
from mesh.p2p.messages import Hello
from mesh.p2p.overlay import Stream
from mesh.p2p.sealed_streams import SealedStream, Sealing
from mesh.p2p.serving import Serving
from mesh.p2p.session import Session, SessionRefused
from mesh.p2p.sharing.messages import PROTOCOL
from mesh.p2p.tasks import TaskOwner
from mesh.p2p.topics import OnGossip
from mesh.p2p.wire import Wire

OPEN_S = 10.0
# A visit may last for so long; who has more to fetch comes again.
VISIT_S = 300.0
VISITORS_PER_PEER = 2
VISITORS = 64
# Requests of this protocol have no body, and answers are a page.
_REQUEST_BYTES = 64 * 1024
_ANSWER_BYTES = 2 << 20
# Pages of JSON shrink to a third; small answers are not worth the work.
_PACK_OVER = 1024


class Network(Protocol):
    """What the bridge needs of `mesh.p2p.peers.Peers`."""

    def connected(self) -> frozenset[str]: ...  # noqa: D102 - as there

    def register(self, topic: str, callback: OnGossip) -> None: ...  # noqa: D102

    def accept(self, protocol: str, on_stream: Callable[[Stream], None]) -> None: ...  # noqa: D102

    async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream: ...  # noqa: D102

    async def gossip(self, topic: str, data: bytes) -> None: ...  # noqa: D102

    def misbehaved(self, peer: str, rule: str, detail: str) -> None: ...  # noqa: D102

    def drop(self, peer: str, reason: str) -> None: ...  # noqa: D102


class JournalStreams:
    """Opens and accepts them. ``admits(peer)`` says whether a visitor is let in; ``sealing`` seals what is said.

    ``bytes_in`` and ``bytes_out`` are what the streams carried that are over.
    """

    def __init__(
        self,
        network: Network,
        hello: Hello,
        handlers: Mapping[str, Handler],
        clock: Clock,
        tasks: TaskOwner,
        *,
        admits: Callable[[str], bool],
        sealing: Sealing | None = None,
    ) -> None:
        self._network = network
        self._hello = hello
        self._handlers = handlers
        self._clock = clock
        self._tasks = tasks
        self._admits = admits
        self._sealing = sealing
        self._visitors: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        network.accept(PROTOCOL, self._accept)

    @asynccontextmanager
    async def open(self, peer: str) -> AsyncIterator[Calling]:
        """Visit a peer. Raises StreamRefused, OverlayDown, CallFailed, SessionRefused and PeerMisbehaved."""
        stream = await self._network.open_stream(peer, PROTOCOL, OPEN_S)
        settled = asyncio.Event()
        faults: list[PeerMisbehaved | SessionRefused] = []
        sealed = self._sealing.begin(self._hello) if self._sealing is not None else None
        session = Session(
            stream,
            self._hello if sealed is None else sealed.hello,
            partial(self._begin_asking, peer, faults, sealed),
            self._clock,
            opener=True,
            on_usable=settled.set,
        )
        running = self._tasks.start(self._ask(session, settled, faults), f"ask {peer} for its journal")
        try:
            yield await _greeted(session, settled)
        except CallFailed:
            if faults:
                raise faults[0] from None  # why the stream ended says more
            raise
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def _ask(
        self, session: Session[Calling], settled: asyncio.Event, faults: list[PeerMisbehaved | SessionRefused]
    ) -> None:
        why = "the stream was closed"
        try:
            why = await session.run()
        except (PeerMisbehaved, SessionRefused) as fault:
            why = fault.what
            faults.append(fault)
        finally:
            settled.set()
            self._count(session.wire)
            if session.end is not None:
                session.end.close(why)

    def _begin_asking(
        self,
        peer: str,
        faults: list[PeerMisbehaved | SessionRefused],
        sealed: SealedStream | None,
        hello: Hello,
        wire: Wire,
    ) -> Calling:
        calling = Calling(
            peer,
            wire,
            ours=self._hello.limits,
            theirs=hello.limits,
            budget=Budget(_ANSWER_BYTES),
            on_pong=lambda _sequence, _asked, _answered: None,
            on_fault=faults.append,
            pack_over=self._pack_over(hello),
        )
        if sealed is not None:
            calling.sealed = sealed.calls(calling, hello, peer, faults.append)
        return calling

    def _count(self, wire: Wire) -> None:
        self.bytes_in += wire.bytes_in
        self.bytes_out += wire.bytes_out

    def _pack_over(self, theirs: Hello) -> int:
        return _PACK_OVER if packing.FEATURE in self._hello.features and packing.FEATURE in theirs.features else 0

    def _accept(self, stream: Stream) -> None:
        full = self._visitors[stream.peer] >= VISITORS_PER_PEER or self._visitors.total() >= VISITORS
        if full or not self._admits(stream.peer):
            stream.writer.close()
            return
        self._visitors[stream.peer] += 1
        self._tasks.start(self._answer(stream), f"answer {stream.peer} on the journal")

    async def _answer(self, stream: Stream) -> None:
        sealed = self._sealing.begin(self._hello) if self._sealing is not None else None

        def begin(hello: Hello, wire: Wire) -> Serving:
            return Serving(
                stream.peer,
                self._handlers if sealed is None else sealed.handlers(self._handlers, hello, stream.peer),
                wire,
                ours=self._hello.limits,
                theirs=hello.limits,
                budget=Budget(_REQUEST_BYTES),
                clock=self._clock,
                on_fault=lambda fault: self._network.misbehaved(stream.peer, fault.rule, fault.what),
                pack_over=self._pack_over(hello),
            )

        hello = self._hello if sealed is None else sealed.hello
        session = Session(stream, hello, begin, self._clock, opener=False)
        try:
            async with asyncio.timeout(VISIT_S):
                await session.run()
        except PeerMisbehaved as fault:
            self._network.misbehaved(stream.peer, fault.rule, fault.what)
        except (SessionRefused, TimeoutError):
            pass  # the peer was told, or has been here for long enough
        finally:
            self._count(session.wire)
            self._visitors[stream.peer] -= 1
            if not self._visitors[stream.peer]:
                del self._visitors[stream.peer]
            if session.end is not None:
                await session.end.close()


async def _greeted(session: Session[Calling], settled: asyncio.Event) -> Calling:
    """What asks, once the peer has said hello."""
    try:
        async with asyncio.timeout(OPEN_S):
            await settled.wait()
    except TimeoutError:
        raise CallFailed("expired", f"no hello from {session.peer} within {OPEN_S:g} s") from None
    if session.end is None or not session.usable:
        raise CallFailed("disconnected", f"{session.peer} ended the stream")
    return session.end
