"""Keeps the two streams with each connected peer: the one that we opened and ask on, the one that it opened."""

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.errors import PeerMisbehaved
from mesh.p2p import messages, packing
from mesh.p2p.backoff import Backoff
from mesh.p2p.calling import Calling
from mesh.p2p.calls import Handler
from mesh.p2p.credit import Budget
from mesh.p2p.link import Link
from mesh.p2p.membership import SETTLED_S
from mesh.p2p.messages import DEFAULT_WINDOW_BYTES, PROTOCOL, VERSION, Hello, Limits
from mesh.p2p.overlay import Overlay, OverlayDown, Stream, StreamRefused
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.serving import Serving
from mesh.p2p.session import Session, SessionRefused
from mesh.p2p.tasks import TaskOwner
from mesh.p2p.wire import Wire

log = structlog.get_logger(__name__)

# The first pause before a stream that ended is opened again: there is a connection, so that it costs little.
_REOPEN_S = 0.05
_IDLE_POLL_S = 0.05

Fault = PeerMisbehaved | SessionRefused
OnPong = Callable[[Link, int, float, float], None]


def our_hello(config: OverlayConfig, *, mesh: str, name: str) -> Hello:
    """What this node says of itself in the first frame."""
    limits = Limits(
        max_frame_bytes=config.max_frame_bytes,
        max_body_bytes=config.max_request_bytes,
        requests=config.requests_per_peer,
        window_bytes=DEFAULT_WINDOW_BYTES,
    )
    heartbeat_ms = min(600_000, max(10, round(config.heartbeat_s * 1000)))
    features = [packing.FEATURE] if config.compress_over_bytes else []
    return Hello(
        versions=[VERSION], mesh=mesh, name=name[:64], heartbeat_ms=heartbeat_ms, features=features, limits=limits
    )


class Streams:
    """Opens, accepts and ends streams.

    ``on_usable(link)`` is called when calls can be made from now on, ``on_unusable(link)`` when not any more,
    ``on_fault(link, fault)`` when the stream ended by the peer's fault, ``on_greeted(link, hello)`` for each hello,
    ``on_leaving(link, reason)`` when the peer says goodbye.
    """

    def __init__(
        self,
        overlay: Overlay,
        config: OverlayConfig,
        hello: Hello,
        handlers: Mapping[str, Handler],
        clock: Clock,
        rng: random.Random,
        tasks: TaskOwner,
        *,
        sealing: Sealing | None,
        on_usable: Callable[[Link], None],
        on_unusable: Callable[[Link], None],
        on_fault: Callable[[Link, Fault], None],
        on_greeted: Callable[[Link, Hello], None],
        on_leaving: Callable[[Link, str], None],
        on_pong: OnPong,
        on_ping: Callable[[Link], None],
    ) -> None:
        self._overlay = overlay
        self._config = config
        self._hello = hello
        self._handlers = handlers
        self._clock = clock
        self._rng = rng
        self._tasks = tasks
        self._sealing = sealing
        self._on_usable = on_usable
        self._on_unusable = on_unusable
        self._on_fault = on_fault
        self._on_greeted = on_greeted
        self._on_leaving = on_leaving
        self._on_pong = on_pong
        self._on_ping = on_ping
        buffered = max(config.max_buffered_bytes, config.max_request_bytes)
        self._per_peer = max(buffered // 4, config.max_request_bytes)
        self._requests = Budget(buffered)
        self._answers = Budget(buffered)

    def keep(self, link: Link) -> None:
        """Have a stream to ask on for as long as there is a connection."""
        link.keeper = self._tasks.start(self._keep(link), f"keep a stream to {link.peer}")

    def renew(self, link: Link) -> None:
        """There is a better connection than the one of our stream: ask on another, once no call is under way."""
        link.renewal.set()

    def accept(self, link: Link, stream: Stream) -> None:
        """Answer on a stream that the peer opened; it takes the place of an earlier one."""
        self.end_answering(link)
        link.answerer = self._tasks.start(self._answer(link, stream), f"answer {link.peer}")

    def end_answering(self, link: Link) -> None:
        """Give up the stream that the peer opened."""
        if link.answerer is not None:
            link.answerer.cancel()
        link.answerer = link.answering = None

    def drop(self, link: Link, reason: str) -> None:
        """The peer is gone: calls to it fail at once, handlers that work for it are cancelled."""
        if link.calling is not None:
            link.calling.close(reason)
        if link.keeper is not None:
            link.keeper.cancel()
        link.keeper = link.asking = None
        self.end_answering(link)
        self._on_unusable(link)

    def say_goodbye(self, link: Link, reason: str) -> None:
        """Tell the peer that we leave, as the last that it hears on either stream; then `drop` it."""
        farewell = messages.error(0, messages.LEAVING, reason)
        for session in link.sessions:
            session.farewell = farewell
        self.drop(link, reason)

    async def _keep(self, link: Link) -> None:
        backoff = Backoff(min(_REOPEN_S, self._config.redial_min_s), self._config.redial_max_s, self._rng)
        while True:
            opened = self._clock.monotonic()
            try:
                stream = await self._overlay.open_stream(link.peer, PROTOCOL, self._config.dial_timeout_s)
            except (StreamRefused, OverlayDown) as error:
                log.debug("no stream", peer=link.peer, why=error.what)
            else:
                await self._ask_on(link, stream)
            if self._clock.monotonic() - opened >= SETTLED_S:
                backoff.succeed()
            await self._clock.sleep(backoff.fail())

    async def _ask_on(self, link: Link, stream: Stream) -> None:
        """Ask on a stream, and on whatever takes its place, until the last has ended."""
        link.renewal.clear()
        renewal = asyncio.create_task(self._replacement(link), name=f"renew the stream to {link.peer}")
        asking = {asyncio.create_task(self._ask(link, stream), name=f"ask {link.peer}")}
        try:
            while asking:
                done, _ = await asyncio.wait({renewal, *asking}, return_when=asyncio.FIRST_COMPLETED)
                for task in done & asking:
                    asking.discard(task)
                    task.result()
                if renewal in done:
                    asking.add(asyncio.create_task(self._ask(link, renewal.result()), name=f"ask {link.peer}"))
                    renewal = asyncio.create_task(self._replacement(link), name=f"renew the stream to {link.peer}")
        finally:
            for task in (renewal, *asking):
                task.cancel()
            await asyncio.gather(renewal, *asking, return_exceptions=True)

    async def _replacement(self, link: Link) -> Stream:
        """A stream to ask on instead, when `renew` says so. The acceptor ends the old one, so it has to be idle."""
        while True:
            await link.renewal.wait()
            link.renewal.clear()
            while link.calling is not None and link.calling.in_flight:
                await self._clock.sleep(_IDLE_POLL_S)
            try:
                return await self._overlay.open_stream(link.peer, PROTOCOL, self._config.dial_timeout_s)
            except (StreamRefused, OverlayDown) as error:
                log.debug("no better stream", peer=link.peer, why=error.what)

    async def _ask(self, link: Link, stream: Stream) -> None:
        sealing = self._sealing.begin(self._hello) if self._sealing is not None else None

        def begin(hello: Hello, wire: Wire) -> Calling:
            self._on_greeted(link, hello)
            budget = Budget(self._per_peer, self._answers)
            on_fault = partial(self._end_by_fault, link, wire)
            calling = Calling(
                link.peer,
                wire,
                ours=self._hello.limits,
                theirs=hello.limits,
                budget=budget,
                on_pong=lambda sequence, asked, answered: self._on_pong(link, sequence, asked, answered),
                on_fault=on_fault,
                pack_over=self._pack_over(hello),
            )
            if sealing is not None:
                calling.sealed = sealing.calls(calling, hello, link.peer, on_fault)
            return calling

        def use() -> None:
            link.asking = session
            self._on_usable(link)

        session = Session(
            stream,
            self._hello if sealing is None else sealing.hello,
            begin,
            self._clock,
            opener=True,
            on_usable=use,
            on_leaving=lambda reason: self._on_leaving(link, reason),
        )
        if link.calling is None:
            link.asking = session
        why = "the connection was lost"
        try:
            why = await session.run()
        except (PeerMisbehaved, SessionRefused) as fault:
            why = fault.what
            self._on_fault(link, fault)
        finally:
            if session.end is not None:
                session.end.close(why)
            link.ended(session)
            if link.asking is session:
                link.asking = None
                self._on_unusable(link)

    def _pack_over(self, theirs: Hello) -> int:
        """Bodies of more bytes than this are compressed for the peer; 0: none."""
        return self._config.compress_over_bytes if packing.FEATURE in theirs.features else 0

    def _end_by_fault(self, link: Link, wire: Wire, fault: PeerMisbehaved) -> None:
        """A fault that showed only after its frame was taken: the same words and the same end as at once."""
        wire.put(messages.error(0, "protocol", f"{fault.rule}: {fault.what}"))
        self._on_fault(link, fault)

    async def _answer(self, link: Link, stream: Stream) -> None:
        sealing = self._sealing.begin(self._hello) if self._sealing is not None else None

        def begin(hello: Hello, wire: Wire) -> Serving:
            self._on_greeted(link, hello)
            return Serving(
                link.peer,
                self._handlers if sealing is None else sealing.handlers(self._handlers, hello, link.peer),
                wire,
                ours=self._hello.limits,
                theirs=hello.limits,
                budget=Budget(self._per_peer, self._requests),
                clock=self._clock,
                on_ping=partial(self._on_ping, link),
                on_fault=partial(self._end_by_fault, link, wire),
                pack_over=self._pack_over(hello),
            )

        session = link.answering = Session(
            stream,
            self._hello if sealing is None else sealing.hello,
            begin,
            self._clock,
            opener=False,
            on_leaving=lambda reason: self._on_leaving(link, reason),
        )
        try:
            await session.run()
        except (PeerMisbehaved, SessionRefused) as fault:
            self._on_fault(link, fault)
        finally:
            link.ended(session)
            if link.answering is session:
                link.answering = None
            if session.end is not None:
                await session.end.close()
