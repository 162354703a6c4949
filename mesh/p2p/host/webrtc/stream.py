"""A libp2p stream on a data channel."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset

from mesh.p2p.host.muxed import MuxingStream
from mesh.p2p.host.webrtc.framing import MAX_PAYLOAD_BYTES, Deframer, Flag, frame

if TYPE_CHECKING:
    from mesh.p2p.host.webrtc.connection import WebRtcConnection

# How much of one stream may wait for the peer's acknowledgement.
SEND_BYTES = 1 << 18
_LINGER_TICKS = 2


class WebRtcStream(MuxingStream):
    """See `MuxedConnection` for what is expected of it.

    ``put`` sends a frame, ``unsent`` says how many bytes wait, ``on_held`` hears by how much what it holds
    grew or shrank, and ``on_over`` that both directions are over.
    """

    def __init__(
        self,
        connection: "WebRtcConnection",
        channel: int,
        *,
        put: Callable[[bytes], None],
        unsent: Callable[[], int],
        on_held: Callable[[int], None],
        on_over: Callable[["WebRtcStream"], None],
    ) -> None:
        super().__init__(connection)
        self.channel = channel
        self._put = put
        self._unsent = unsent
        self._on_held = on_held
        self._counted = 0
        self._on_over = on_over
        self._deframer = Deframer()
        self._is_acknowledged = False
        self._is_over = False
        self._lingered = 0
        self.room = trio.Event()

    # --- from the peer -------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Bytes that came and were not taken."""
        return len(self._received) + self._deframer.held

    def feed(self, data: bytes) -> None:
        """A message of the channel. Raises FrameFault."""
        for payload, flag in self._deframer.feed(data):
            if payload and not self._deaf and not self._ended:
                self._received += payload
            if flag is not None:
                self._obey(flag)
        self._count()
        self._tell()

    def _count(self) -> None:
        change, self._counted = self.held - self._counted, self.held
        if change:
            self._on_held(change)

    def _obey(self, flag: Flag) -> None:
        match flag:
            case Flag.FIN:
                self._ended = True
                self._put(frame(flag=Flag.FIN_ACK))
            case Flag.RESET:
                self._break()
            case Flag.STOP_SENDING:
                self._finish()
            case Flag.FIN_ACK:
                self._is_acknowledged = True
        self._look_whether_over()

    def gone(self) -> None:
        """The channel was closed, or the connection is over."""
        if not self._ended:
            self._break()
        self.closed = self._is_over = True
        self._tell()

    def _break(self) -> None:
        self.reset_received = self._ended = self.closed = True
        self._drop()

    def _drop(self) -> None:
        self._received.clear()
        self._count()

    def _look_whether_over(self) -> None:
        """The channel is closed once the peer has our end too: others answer it, and cannot on one that is closed."""
        if self._has_ended and (self._is_acknowledged or self.reset_received):
            self._be_over()

    @property
    def _has_ended(self) -> bool:
        return self._ended and self.closed

    def _be_over(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_over(self)

    def _tell(self) -> None:
        super()._tell()
        self.room.set()

    # --- from us -------------------------------------------------------------------------------------------------

    @property
    def send_window(self) -> int:
        """How much `write` takes at once."""
        return 0 if self.closed else max(0, SEND_BYTES - self._unsent())

    def _taken(self, size: int) -> None:
        del size
        self._count()

    async def write(self, data: bytes) -> None:
        """Send it, waiting for room as long as it takes. Raises MuxedStreamReset, MuxedStreamClosed."""
        sent = 0
        while sent < len(data):
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if self.closed:
                raise MuxedStreamClosed("the stream is closed for writing")
            part = data[sent : sent + min(self.send_window, MAX_PAYLOAD_BYTES)]
            if part:
                self._put(frame(part))
                sent += len(part)
            else:
                self.room = trio.Event()
                await self.room.wait()
        await trio.lowlevel.checkpoint()

    def _finish(self) -> None:
        if not self.closed:
            self.closed = True
            self._put(frame(flag=Flag.FIN))

    async def close_write(self) -> None:
        """No more will be written."""
        self._finish()
        self._look_whether_over()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """No more will be written or read."""
        if not self._ended and not self._deaf:
            self._deaf = True
            self._put(frame(flag=Flag.STOP_SENDING))
        self._finish()
        self._drop()
        self._look_whether_over()
        self._tell()
        await trio.lowlevel.checkpoint()

    def linger(self) -> None:
        """Called every few seconds: a stream that the peer does not end, or whose end it does not answer, is over."""
        if (self._deaf or self._has_ended) and not self._is_over:
            self._lingered += 1
            if self._lingered > _LINGER_TICKS:
                self._be_over() if self._has_ended else self.break_off()

    async def reset(self) -> None:
        """End both directions at once."""
        self.break_off()
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """As `reset`, without waiting for a turn."""
        if not self._is_over:
            self._put(frame(flag=Flag.RESET))
            self._break()
            self._look_whether_over()
        self._tell()
