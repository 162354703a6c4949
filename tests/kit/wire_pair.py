"""Two ends of the peer protocol joined in memory, and a raw end that can say anything."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from mesh.clock import Clock
from mesh.errors import PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.calling import Calling
from mesh.p2p.calls import Handler
from mesh.p2p.credit import Budget
from mesh.p2p.frames import Decoder, Frame, Kind, encode
from mesh.p2p.memory_link import MemoryEnd, memory_stream
from mesh.p2p.messages import PROTOCOL, Hello, Limits
from mesh.p2p.overlay import Stream
from mesh.p2p.serving import Serving
from mesh.p2p.session import Session
from tests.kit.loop_clock import LoopClock

ASKER, SERVER = "asker", "server"
OnFault = Callable[[PeerMisbehaved], None]


def _blame(fault: PeerMisbehaved) -> None:
    raise AssertionError(f"nobody expected a late fault: {fault!r}")


def hello(mesh: str = "lab", **limits: int) -> Hello:
    defaults = {"max_frame_bytes": 65536, "max_body_bytes": 1 << 20, "requests": 8, "window_bytes": 65536}
    return Hello(versions=[1], mesh=mesh, name="n", heartbeat_ms=1000, limits=Limits(**{**defaults, **limits}))


def asking(
    end: MemoryEnd,
    mine: Hello,
    *,
    budget: Budget | None = None,
    clock: Clock | None = None,
    on_fault: OnFault | None = None,
    pack_over: int = 0,
) -> Session[Calling]:
    return Session(
        Stream(SERVER, PROTOCOL, end.reader, end.writer),
        mine,
        lambda theirs, wire: Calling(
            SERVER,
            wire,
            ours=mine.limits,
            theirs=theirs.limits,
            budget=budget or Budget(1 << 30),
            on_pong=lambda *_: None,
            on_fault=on_fault or _blame,
            pack_over=pack_over,
        ),
        clock or LoopClock(),
        opener=True,
    )


def answering(
    end: MemoryEnd,
    mine: Hello,
    handlers: Mapping[str, Handler],
    *,
    budget: Budget | None = None,
    clock: Clock | None = None,
    on_fault: OnFault | None = None,
    pack_over: int = 0,
) -> Session[Serving]:
    clock = clock or LoopClock()
    return Session(
        Stream(ASKER, PROTOCOL, end.reader, end.writer),
        mine,
        lambda theirs, wire: Serving(
            ASKER,
            handlers,
            wire,
            ours=mine.limits,
            theirs=theirs.limits,
            budget=budget or Budget(1 << 30),
            clock=clock,
            on_fault=on_fault or _blame,
            pack_over=pack_over,
        ),
        clock,
        opener=False,
    )


@asynccontextmanager
async def pair(
    handlers: Mapping[str, Handler],
    *,
    asker: Hello | None = None,
    server: Hello | None = None,
    budget: Budget | None = None,
    latency_s: float = 0.0,
    on_fault: OnFault | None = None,
    pack_over: int = 0,
) -> AsyncIterator[tuple[Calling, Serving, MemoryEnd]]:
    """Both sides in earnest; the link between them can be held or lost."""
    near, far = memory_stream(latency_s)
    left = asking(near, asker or hello(), on_fault=on_fault, pack_over=pack_over)
    right = answering(far, server or hello(), handlers, budget=budget, on_fault=on_fault, pack_over=pack_over)
    tasks = [asyncio.create_task(left.run()), asyncio.create_task(right.run())]
    try:
        async with asyncio.timeout(5):
            while left.end is None or right.end is None:
                await asyncio.sleep(latency_s)
        yield left.end, right.end, near
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if left.end is not None:
            left.end.close("over")
        if right.end is not None:
            await right.end.close()


class RawEnd:
    """One end of a stream in the hands of a test: it writes any bytes, and reads frames."""

    def __init__(self, end: MemoryEnd) -> None:
        self._end = end
        self._decoder = Decoder(1 << 24)
        self._frames: list[Frame] = []

    def write(self, data: bytes) -> None:
        self._end.writer.write(data)

    def say(self, kind: Kind, call: int, body: bytes = b"") -> None:
        self.write(encode(kind, call, body))

    def greet(self, **limits: int) -> None:
        self.write(messages.hello(hello(**limits)))

    def request(
        self,
        call: int,
        method: str = "echo",
        *,
        body: bytes = b"",
        body_bytes: int | None = None,
        timeout_ms: int = 5000,
    ) -> None:
        head = messages.request_head(method, timeout_ms, {}, len(body) if body_bytes is None else body_bytes)
        self.write(messages.with_head(Kind.REQUEST, call, head, body))

    async def frame(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        while not self._frames:
            data = await self._end.reader.read(1 << 16)
            if not data:
                return None
            self._frames = self._decoder.feed(data)
        return self._frames.pop(0)

    async def expect(self, *kinds: Kind) -> list[Frame]:
        frames = [await self.frame() for _ in kinds]
        assert [frame and frame.kind for frame in frames] == list(kinds)
        return [frame for frame in frames if frame is not None]
