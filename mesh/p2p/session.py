"""One stream with a peer, from the first hello to the end: handshake, then one side asks and the other answers."""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mesh.clock import Clock
from mesh.errors import MeshError, PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.frames import Frame, Kind
from mesh.p2p.messages import ErrorBody, Hello
from mesh.p2p.overlay import Stream
from mesh.p2p.wire import Wire

HANDSHAKE_S = 5.0


class SessionRefused(MeshError):
    """The two cannot work together: ``rule`` says why, and it is nobody's misbehaviour.

    ``final``: trying again soon will not help.
    """

    def __init__(self, rule: str, what: str, *, limit: str, value: str, final: bool) -> None:
        super().__init__(what)
        self.rule = rule
        self.limit = limit
        self.final = final
        self.value = value


class End(Protocol):
    """What a session is for, once both have said hello."""

    def on_frame(self, frame: Frame) -> None:
        """React to a frame; must return at once. Raises PeerMisbehaved."""
        ...


E = TypeVar("E", bound=End)


class Session(Generic[E]):
    """Runs one stream.

    ``make_end`` is asked, with the peer's hello, for what reacts to frames; from then on `usable` is true, and
    ``on_usable`` is told. The opener says hello first, the acceptor answers.
    ``on_leaving`` is told when the peer says goodbye, with its reason; ``farewell`` is ours, sent when the stream ends.
    """

    def __init__(
        self,
        stream: Stream,
        hello: Hello,
        make_end: Callable[[Hello, Wire], E],
        clock: Clock,
        *,
        opener: bool,
        on_usable: Callable[[], None] = lambda: None,
        on_leaving: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self.peer = stream.peer
        self.wire = Wire(stream, hello.limits.max_frame_bytes, clock)
        self.hello: Hello | None = None
        self._ours = hello
        self._make_end = make_end
        self.end: E | None = None
        self._opener = opener
        self._on_usable = on_usable
        self._on_leaving = on_leaving
        self.farewell = b""
        self._ended = asyncio.Event()
        self._why = ""

    @property
    def usable(self) -> bool:
        """Whether both have said hello, and the stream has not ended."""
        return self.end is not None and not self._ended.is_set()

    async def run(self) -> str:
        """Until the stream ends; returns why it did. Raises PeerMisbehaved and SessionRefused, after saying so."""
        writer = asyncio.create_task(self._write(), name=f"write to {self.peer}")
        last_words = b""
        try:
            if self._opener:
                self.wire.put(messages.hello(self._ours))
            await self._read()
        except PeerMisbehaved as error:
            last_words = messages.error(0, "protocol", f"{error.rule}: {error.what}")
            raise
        except SessionRefused as error:
            last_words = messages.error(0, "refused", f"{error.rule}: {error.what}")
            raise
        except OSError as error:
            self._why = f"the stream broke: {error}"
        finally:
            self._ended.set()
            writer.cancel()
            await asyncio.wait([writer])
            self.wire.close(last_words or self.farewell)
        if not writer.cancelled():
            writer.result()
        return self._why

    async def _write(self) -> None:
        try:
            await self.wire.write_all()
        except OSError as error:
            self._why = f"the stream broke: {error}"
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._why = "writing failed"
            raise
        self.wire.close()

    async def _read(self) -> None:
        """Frames until the end. The hello has to come in time."""
        try:
            async with asyncio.timeout(HANDSHAKE_S) as deadline:
                while (frames := await self.wire.read()) is not None:
                    for frame in frames:
                        self._react(frame)
                    if self.end is not None:
                        deadline.reschedule(None)
                    if not self._opener:
                        await self.wire.taken()
                    if self._ended.is_set():
                        return
        except TimeoutError:
            if not deadline.expired():
                raise
            what = f"no hello within {HANDSHAKE_S:g} s"
            raise SessionRefused(
                "handshake", what, limit=f"{HANDSHAKE_S:g} s", value="none", final=not self._opener
            ) from None
        self._why = self._why or "the peer closed the stream"

    def _react(self, frame: Frame) -> None:
        if frame.kind is Kind.ERROR and not frame.call:
            error = messages.parse(ErrorBody, frame.body, messages.MAX_ERROR_BYTES)
            self._why = f"the peer ended the stream: {error.kind}: {error.message}"
            self._ended.set()
            if error.kind == messages.LEAVING and self.end is not None:
                self._on_leaving(error.message)
        elif self.end is not None and frame.kind is not Kind.HELLO:
            self.end.on_frame(frame)
        else:
            self._greet(frame)

    def _greet(self, frame: Frame) -> None:
        if frame.kind is not Kind.HELLO or frame.call or self.end is not None:
            raise PeerMisbehaved("hello", f"each side says hello once, in its first frame; this is {frame.kind.name}")
        hello = messages.parse(Hello, frame.body, messages.MAX_HELLO_BYTES)
        if messages.VERSION not in hello.versions:
            what = f"the peer speaks versions {hello.versions} of the protocol"
            raise SessionRefused("version", what, limit=str(messages.VERSION), value=str(hello.versions), final=True)
        if hello.mesh != self._ours.mesh:
            what = f"the peer is in the mesh {hello.mesh!r}"
            raise SessionRefused("mesh", what, limit=self._ours.mesh, value=hello.mesh, final=True)
        self.wire.keep_within(hello.limits.max_frame_bytes)
        if not self._opener:
            self.wire.put(messages.hello(self._ours))
        self.hello = hello
        self.end = self._make_end(hello, self.wire)
        self._on_usable()
