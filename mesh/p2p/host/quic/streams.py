"""One stream of a QUIC connection, as py-libp2p sees it."""

from typing import Protocol

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset

from mesh.p2p.host.muxed import MuxingConnection, MuxingStream

# Written and not acknowledged by the peer: what a fast and far connection needs under way.
SEND_BUFFER_BYTES = 512 << 10


class Carrier(Protocol):
    """What a stream asks of its connection."""

    def send(self, number: int, data: bytes, *, ended: bool = False) -> None:
        """Write to a stream."""
        ...

    def unacknowledged(self, number: int) -> int:
        """Bytes written to a stream that the peer has not acknowledged."""
        ...

    def wake_when_acknowledged(self, stream: "QuicStream") -> None:
        """Call its `wake` when there is room to write, or the connection is over."""
        ...

    def taken(self, number: int, total: int, more: int) -> None:
        """``more`` bytes of a stream need no room here any more, ``total`` so far."""
        ...

    def stop(self, number: int, *, writing: bool, reading: bool) -> None:
        """Tell the peer that nobody here writes any more (what was written may be lost), or reads."""
        ...

    def drop(self, stream: "QuicStream") -> None:
        """Nothing comes and nothing goes any more."""
        ...


class QuicStream(MuxingStream):
    """Reads what has come, writes as the peer acknowledges."""

    def __init__(self, number: int, connection: MuxingConnection, carrier: Carrier) -> None:
        super().__init__(connection)
        self.number = number
        self._carrier = carrier
        self._arrived = 0
        self._taken_total = 0

    def wake(self) -> None:
        """Something has changed for who waits."""
        self._tell()

    # --- what comes ----------------------------------------------------------------------------------------------

    def arrived(self, data: bytes, *, ended: bool) -> None:
        """The next bytes are there."""
        self._arrived += len(data)
        self._ended = self._ended or ended
        if self._deaf:
            self._take(self._arrived)
        else:
            self._received += data
        self._settle()

    def was_reset(self, final_size: int) -> None:
        """The peer gave its side up, or the connection is over."""
        self.reset_received = True
        self._received.clear()
        self._take(final_size)
        self._settle()

    def _taken(self, size: int) -> None:
        self._take(self._taken_total + size)

    def _take(self, total: int) -> None:
        if total > self._taken_total:
            more, self._taken_total = total - self._taken_total, total
            self._carrier.taken(self.number, total, more)

    # --- what goes -----------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Return once all of it is on its way or buffered. Raises MuxedStreamClosed, or MuxedStreamReset."""
        sent = 0
        while sent < len(data):
            room = await self._room()
            self._carrier.send(self.number, data[sent : sent + room])
            sent += room
        await trio.lowlevel.checkpoint()

    async def _room(self) -> int:
        while not self.closed:
            if (room := SEND_BUFFER_BYTES - self._carrier.unacknowledged(self.number)) > 0:
                return room
            self._carrier.wake_when_acknowledged(self)
            await self._news.wait()
        raise MuxedStreamReset("the stream was reset") if self.reset_received else MuxedStreamClosed("it is closed")

    async def close_write(self) -> None:
        """Nothing more will be written."""
        if not self.closed:
            self._carrier.send(self.number, b"", ended=True)
            self.unwanted()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Nothing more will be written, nor read."""
        await self.close_write()
        self._stop_reading()

    async def reset(self) -> None:
        """Give up both sides."""
        self.give_up()
        await trio.lowlevel.checkpoint()

    def give_up(self) -> None:
        """See `reset`."""
        if not self.closed:
            self._carrier.stop(self.number, writing=True, reading=False)
        self._stop_reading()
        self.unwanted()

    def unwanted(self) -> None:
        """Nothing can be written any more."""
        self.closed = True
        self._settle()

    def _stop_reading(self) -> None:
        if not self._deaf:
            self._deaf = True
            if not (self._ended or self.reset_received):
                self._carrier.stop(self.number, writing=False, reading=True)
            self._received.clear()
            self._take(self._arrived)
            self._settle()

    def _settle(self) -> None:
        if self.closed and (self._ended or self.reset_received):
            self._carrier.drop(self)
        self.wake()
