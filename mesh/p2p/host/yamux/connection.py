"""One Yamux connection: what comes is deciphered and given to its stream in one turn of the loop, and so is what goes.

py-libp2p's own takes seven turns for a message, most of them for locks that nobody else holds, and a task for each
half; a call between two nodes waited longer for those than for all else.
"""

import itertools
import traceback
from collections.abc import Callable

import trio
from libp2p.abc import IMuxedStream
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable

from mesh.p2p.host.ciphers import Cipher, CipherFault
from mesh.p2p.host.muxed import MuxingConnection
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.wires import ByteWire
from mesh.p2p.host.yamux.frames import PROTOCOL, Flag, Frame, FrameFault, Kind, Parser, encode
from mesh.p2p.host.yamux.stream import WindowExceeded, YamuxStream

MAX_BUFFERED_BYTES = 32 << 20
# Opened by the peer, and not looked at yet: as many as go-yamux has room for.
_BACKLOG = 256
# Streams that nobody here has use for and that the peer has not ended; the longest left is given up over that.
_MAX_LEFT = 64
_MAX_NUMBER = 2**32 - 1
# What one read brings can be thousands of frames, each with an answer to be sealed; after so many, others have a turn.
_FRAMES_A_TURN = 64
_RTT_FOR_S = 30.0


class YamuxConnection(MuxingConnection):
    """Streams over a `ByteWire`, through a `Cipher`.

    Windows that a peer ignores end it, and so does more than MAX_BUFFERED_BYTES that nobody reads; ``budget`` bounds
    what all connections hold.
    """

    negotiated_muxer_protocol = PROTOCOL

    def __init__(
        self, cipher: Cipher, peer_id: ID, wire: ByteWire, budget: ReceiveBudget, *, initiator: bool, security: str
    ) -> None:
        self.peer_id = peer_id
        self.wire: ByteWire = wire
        self.negotiated_security_protocol = security
        self.rtt = 0.0
        self.event_started = trio.Event()
        self.event_shutting_down = trio.Event()
        self._cipher = cipher
        self._outgoing = wire.outgoing
        self._budget = budget
        self._initiator = initiator
        self._parser = Parser()
        self._numbers = itertools.count(1 if initiator else 2, 2)
        self._streams: dict[int, YamuxStream] = {}
        self._left: dict[int, YamuxStream] = {}
        self._opened, self._to_accept = trio.open_memory_channel[IMuxedStream](_BACKLOG)
        self._held = 0
        self._pinged_at = self._measured_at = 0.0
        self._pings = 0
        self._on_frame: dict[int, Callable[[Frame], None]] = {
            Kind.DATA: self._on_data,
            Kind.WINDOW_UPDATE: self._on_window_update,
            Kind.PING: self._on_ping,
            Kind.GO_AWAY: self._on_go_away,
        }

    # --- its life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read until it is over; what it held is free then."""
        self.event_started.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._outgoing.run)
                await self._receive()
                nursery.cancel_scope.cancel()
        finally:
            self._over()

    async def _receive(self) -> None:
        try:
            await self._read()
        except IOException:
            self.wire.ended("the connection broke")
        except CipherFault as fault:  # whoever it was, on the way or at its end: nobody is to blame by name
            self.wire.abort(str(fault))
        except WindowExceeded:
            self.overflowed = True
            self.wire.ended("sent more than it may")
        except FrameFault as fault:
            self.fault = f"yamux: {fault}"
        except Exception as error:  # noqa: BLE001 - what one peer sends must not end the others
            traceback.print_exception(error)
            self.fault = repr(error)

    async def _read(self) -> None:
        """Raises IOException, CipherFault, WindowExceeded, FrameFault."""
        data = self._cipher.begun
        while True:
            for number, frame in enumerate(self._parser.feed(data), start=1):
                self._on_frame[frame.kind](frame)
                if number % _FRAMES_A_TURN == 0:
                    await trio.lowlevel.checkpoint()
            if data:
                self._budget.receive(self, self._held)
            if self._outgoing.is_overfull:  # of answers that the peer does not read
                await self._outgoing.drained()
            received = await self._received()
            if received is None:
                return
            data = self._cipher.open(received)
            if reply := self._cipher.reply():
                self._outgoing.put(reply)

    async def _received(self) -> bytes | None:
        """What has come, b"" where some of it was not opened yet, None at the end. Raises IOException."""
        if self.wire.closed.is_set():
            return None
        if self._cipher.behind:
            await trio.lowlevel.checkpoint()
            return b""
        return None if self._cipher.ended else await self.wire.receive() or None

    def _over(self) -> None:
        self.event_shutting_down.set()
        self.wire.abort(f"broke a protocol: {self.fault}" if self.fault else "closed by the peer")
        self._budget.forget(self)
        self._opened.close()
        for stream in list(self._streams.values()):
            stream.lost()
        self._streams.clear()
        self._left.clear()

    # --- what the peer says --------------------------------------------------------------------------------------

    def _on_data(self, frame: Frame) -> None:
        stream = self._stream_of(frame)
        if stream is None:
            return  # it was given up, and the peer did not know yet
        if frame.value:
            stream.announced(frame.value)
            if self._held + frame.value > MAX_BUFFERED_BYTES:
                raise WindowExceeded
        if frame.data:
            stream.arrived(frame.data)
        self._end(stream, frame.flags)

    def _on_window_update(self, frame: Frame) -> None:
        stream = self._stream_of(frame)
        if stream is not None:
            if frame.value:
                stream.granted(frame.value)
            self._end(stream, frame.flags)

    def _stream_of(self, frame: Frame) -> YamuxStream | None:
        return self._accepted(frame.stream) if frame.flags & Flag.SYN else self._streams.get(frame.stream)

    def _accepted(self, number: int) -> YamuxStream | None:
        if not number or (number % 2 == 1) == self._initiator:
            raise FrameFault(f"stream {number}, whose number is not its opener's")
        if number in self._streams:
            self.put(Kind.WINDOW_UPDATE, Flag.RST, number, 0)
            return None
        stream = YamuxStream(number, self, self)
        try:
            self._opened.send_nowait(stream)
        except trio.WouldBlock:  # opened faster than anybody can look at them
            self.put(Kind.WINDOW_UPDATE, Flag.RST, number, 0)
            return None
        self._streams[number] = stream
        self.put(Kind.WINDOW_UPDATE, Flag.ACK, number, 0)
        return stream

    def _end(self, stream: YamuxStream, flags: int) -> None:
        if flags & Flag.RST:
            stream.was_reset()
        elif flags & Flag.FIN:
            stream.ended()

    def _on_ping(self, frame: Frame) -> None:
        if frame.flags & Flag.SYN:
            self.put(Kind.PING, Flag.ACK, 0, frame.value)
        elif frame.value == self._pings and self._pinged_at:
            self._measured_at = trio.current_time()
            self.rtt, self._pinged_at = self._measured_at - self._pinged_at, 0.0

    def _on_go_away(self, frame: Frame) -> None:
        self.wire.abort("closed by the peer" if not frame.value else f"the peer goes away, with code {frame.value}")

    # --- what streams ask (see Carrier) --------------------------------------------------------------------------

    def put(self, kind: Kind, flags: int, stream: int, value: int, data: bytes | memoryview = b"") -> None:
        """See Carrier."""
        if not self.wire.closed.is_set():  # a TLS that has failed seals nothing more
            self._outgoing.put(self._cipher.seal(encode(kind, flags, stream, value, data)))

    @property
    def is_full(self) -> bool:
        """See Carrier."""
        return self._outgoing.is_full

    async def room(self) -> None:
        """See Carrier."""
        await self._outgoing.room()

    def count(self, change: int) -> None:
        """See Carrier."""
        self._held += change

    def let_go(self, stream: YamuxStream) -> None:
        """See Carrier."""
        self._streams.pop(stream.number, None)
        self._left.pop(stream.number, None)

    def leave(self, stream: YamuxStream) -> None:
        """See Carrier."""
        if stream.number in self._streams:
            self._left[stream.number] = stream
            if len(self._left) > _MAX_LEFT:
                next(iter(self._left.values())).give_up()

    # --- what py-libp2p and the node ask -------------------------------------------------------------------------

    @property
    def is_initiator(self) -> bool:
        """Whether we are the side whose streams have odd numbers."""
        return self._initiator

    async def open_stream(self) -> YamuxStream:
        """A new stream. Raises MuxedConnUnavailable."""
        await trio.lowlevel.checkpoint()  # now: a stream that was opened is never lost to who gave it up meanwhile
        number = next(self._numbers)
        if self.event_shutting_down.is_set() or number > _MAX_NUMBER:
            raise MuxedConnUnavailable("the connection is over")
        stream = self._streams[number] = YamuxStream(number, self, self)
        self.put(Kind.WINDOW_UPDATE, Flag.SYN, number, 0)
        if trio.current_time() - self._measured_at > _RTT_FOR_S:
            self._ping()
        return stream

    def _ping(self) -> None:
        self._pings = (self._pings + 1) % _MAX_NUMBER
        self._pinged_at = trio.current_time()
        self.put(Kind.PING, Flag.SYN, 0, self._pings)

    async def ask_for_life(self) -> None:
        """See `MuxedConnection.ask_for_life`."""
        self._ping()

    def held(self) -> int:
        """See `MuxedConnection.held`."""
        return self._held

    async def close(self) -> None:
        """Say so, and end it."""
        self.put(Kind.GO_AWAY, Flag.NONE, 0, 0)
        await super().close()

    @property
    def is_established(self) -> bool:
        """Whether it is there for streams."""
        return self.event_started.is_set() and not self.is_closed
