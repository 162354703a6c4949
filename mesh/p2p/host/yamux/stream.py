"""One stream of a Yamux connection, as py-libp2p sees it."""

from typing import Protocol

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset

from mesh.p2p.host.muxed import MuxingConnection, MuxingStream
from mesh.p2p.host.yamux.frames import HEADER_BYTES, INITIAL_WINDOW_BYTES, Flag, Kind

# The most that may come on a stream before any of it is read.
MAX_WINDOW_BYTES = 1 << 20
# A frame of this size is one message of Noise.
MAX_FRAME_BYTES = 65535 - 16
MAX_DATA_BYTES = MAX_FRAME_BYTES - HEADER_BYTES
# A window that was read faster than this many round trips was too small for them.
_ROUND_TRIPS = 4


class WindowExceeded(ConnectionError):
    """The peer sent more than it was given room for."""


class Carrier(Protocol):
    """What a stream asks of its connection."""

    rtt: float

    def put(self, kind: Kind, flags: int, stream: int, value: int, data: bytes | memoryview = b"") -> None:
        """Send a frame, now or as soon as it goes."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that no data should be added."""
        ...

    async def room(self) -> None:
        """Return when it is no longer full, or over."""
        ...

    def count(self, change: int) -> None:
        """By how many bytes what is held here grew or shrank."""
        ...

    def let_go(self, stream: "YamuxStream") -> None:
        """Both sides have ended, or the stream was reset: nothing more comes that matters."""
        ...

    def leave(self, stream: "YamuxStream") -> None:
        """Nobody here has use for it any more; the peer has not ended its side."""
        ...


class YamuxStream(MuxingStream):
    """Reads what has come, writes what the peer has room for. `read` and `write` wait only where they must."""

    def __init__(self, number: int, connection: MuxingConnection, carrier: Carrier) -> None:
        super().__init__(connection)
        self.number = number
        self.send_window = INITIAL_WINDOW_BYTES
        self.held = 0
        self._carrier = carrier
        self._window = self._receives = INITIAL_WINDOW_BYTES
        self._coming = 0  # announced, and not here yet
        self._granted_at = 0.0

    # --- from the peer -------------------------------------------------------------------------------------------

    def announced(self, size: int) -> None:
        """A frame of so much data has begun. Raises WindowExceeded."""
        self._receives -= size
        self._coming += size
        if self._receives < 0:
            raise WindowExceeded

    def arrived(self, data: bytes) -> None:
        """The next bytes are there."""
        self._coming -= len(data)
        if not (self._deaf or self._ended):
            self._received += data
            self._count()
            self._tell()

    def granted(self, size: int) -> None:
        """The peer has room for so many more bytes."""
        self.send_window += size
        self._tell()

    def ended(self) -> None:
        """The peer will write no more."""
        self._ended = True
        self._settle()

    def was_reset(self) -> None:
        """The peer gave it up."""
        self._drop()
        self._break()

    def lost(self) -> None:
        """The connection is over. What has come can still be read."""
        if not self._ended:
            self.reset_received = True
        self.closed = True
        self._tell()

    def _break(self) -> None:
        self.reset_received = self.closed = True
        self._carrier.let_go(self)
        self._tell()

    def _drop(self) -> None:
        self._received.clear()
        self._count()

    def _count(self) -> None:
        change, self.held = len(self._received) - self.held, len(self._received)
        self._carrier.count(change)

    def _settle(self) -> None:
        if self.closed and self._ended:
            self._carrier.let_go(self)
        self._tell()

    # --- from us -------------------------------------------------------------------------------------------------

    def _taken(self, size: int) -> None:
        del size
        self._count()
        self._grant()

    def _grant(self) -> None:
        """Give the sender room again once half of the window has been read, as go-yamux does."""
        room = self._window - self._receives - self._coming - len(self._received)
        if room < self._window // 2 or self._ended or self.reset_received:
            return
        now = trio.current_time()
        if now - self._granted_at < _ROUND_TRIPS * self._carrier.rtt and self._window < MAX_WINDOW_BYTES:
            room += self._window
            self._window *= 2
        self._granted_at = now
        self._receives += room
        self._carrier.put(Kind.WINDOW_UPDATE, Flag.NONE, self.number, room)

    async def write(self, data: bytes) -> None:
        """Return once all of it is on its way. Raises MuxedStreamReset, MuxedStreamClosed."""
        left = memoryview(data)
        while left:
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if self.closed:
                raise MuxedStreamClosed("the stream is closed for writing")
            if self._carrier.is_full:
                await self._carrier.room()
            elif not self.send_window:
                await self._news.wait()
            else:
                part = left[: min(self.send_window, MAX_DATA_BYTES)]
                self.send_window -= len(part)
                self._carrier.put(Kind.DATA, Flag.NONE, self.number, len(part), part)
                left = left[len(part) :]

    async def close_write(self) -> None:
        """No more will be written."""
        self._finish()
        await trio.lowlevel.checkpoint()

    def _finish(self) -> None:
        if not self.closed:
            self.closed = True
            self._carrier.put(Kind.WINDOW_UPDATE, Flag.FIN, self.number, 0)
            self._settle()

    async def close(self) -> None:
        """No more will be written, nor read."""
        self._finish()
        if not (self._deaf or self.reset_received):
            self._deaf = True
            self._drop()
            if not self._ended:
                self._carrier.leave(self)
            self._tell()
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """Give up both sides."""
        self.give_up()
        await trio.lowlevel.checkpoint()

    def give_up(self) -> None:
        """See `reset`."""
        if not (self.reset_received or (self.closed and self._ended)):
            self._carrier.put(Kind.WINDOW_UPDATE, Flag.RST, self.number, 0)
            self._break()
        self._drop()
