"""One QUIC connection: datagrams in and out, its clock, and its streams."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from aioquic.quic import events
from libp2p.abc import IMuxedStream
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable

from mesh.p2p.addresses import QUIC
from mesh.p2p.host.doubt import Doubt
from mesh.p2p.host.muxed import MuxingConnection
from mesh.p2p.host.quic.machine import Machine
from mesh.p2p.host.quic.streams import SEND_BUFFER_BYTES, QuicStream
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.wires import Wire

_MAX_REASON_CHARACTERS = 100


class QuicWire(Wire):
    """See `Wire`. There is no ``muxed`` before somebody was let in."""

    def __init__(self, remote: tuple[Any, ...], *, inbound: bool) -> None:
        host, port = str(remote[0]).partition("%")[0], int(remote[1])
        address = f"/{'ip6' if ':' in host else 'ip4'}/{host}/udp/{port}/{QUIC}"
        super().__init__((host, port), address, inbound=inbound, transport=QUIC, hang_up=self._end_muxed)
        self.muxed: QuicMuxed | None = None

    @property
    def is_behind(self) -> bool:
        """See `Wire.is_behind`."""
        return self.muxed is not None and self.muxed.held() > 0

    def _end_muxed(self) -> None:
        if self.muxed is not None:
            self.muxed.hang_up()


class QuicMuxed(MuxingConnection):
    """Joins a `Machine` to a socket (``send``) and to py-libp2p. `run` keeps its clock.

    ``on_ids`` hears of connection ids that come to mean it (True), or no longer do. ``expected`` is the PeerId that
    was dialled; empty for anybody.
    """

    peer_id: ID
    negotiated_security_protocol = "/tls/1.0.0"
    negotiated_muxer_protocol = f"/{QUIC}"

    def __init__(
        self,
        machine: Machine,
        wire: QuicWire,
        budget: ReceiveBudget,
        *,
        send: Callable[[bytes, Any], None],
        on_ids: Callable[["QuicMuxed", bytes, bool], None],
        expected: str = "",
    ) -> None:
        self.wire = wire
        wire.muxed = self
        self.event_started = trio.Event()
        self.event_shutting_down = trio.Event()
        self._machine = machine
        self._budget = budget
        self._send = send
        self._on_ids = on_ids
        self._expected = expected
        self._streams: dict[int, QuicStream] = {}
        self._begun: set[int] = set()  # by the peer, and perhaps over here
        self._blocked: set[QuicStream] = set()
        self._opened, self._to_accept = trio.open_memory_channel[IMuxedStream](machine.max_streams)
        self._shaken = trio.Event()
        self._sooner = trio.Event()
        self._wakes_at = 0.0
        self._doubt = Doubt()
        self._flushing = False

    # --- its life ------------------------------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Return once the peer has proved who it is. Raises trio.BrokenResourceError."""
        await self._shaken.wait()
        if self.event_shutting_down.is_set():
            raise trio.BrokenResourceError(self.wire.end_reason) from self.wire.failure

    async def run(self) -> None:
        """Keep its clock until it is over."""
        while not self.event_shutting_down.is_set():
            self._sooner = trio.Event()
            self._wakes_at = min(self._machine.get_timer() or 0.0, self._doubt.until or math.inf)
            with trio.move_on_at(self._wakes_at) as sleep:
                await self._sooner.wait()
            if sleep.cancelled_caught:
                self._tick(trio.current_time())
                self.flush()

    def receive(self, data: bytes, remote: Any) -> None:  # noqa: ANN401 - as sockets have it
        """A datagram for it; `flush` must follow."""
        self.wire.heard_at = trio.current_time()
        with self._blaming_the_peer():
            self._machine.receive_datagram(data, remote, self.wire.heard_at)

    def _tick(self, now: float) -> None:
        with self._blaming_the_peer():
            if now >= (self._machine.get_timer() or 0.0):
                self._machine.handle_timer(now)
        if self._doubt.is_confirmed(now, self.wire.heard_at):
            self.wire.abort("closed by the peer")

    def unreachable(self) -> None:
        """Somebody says that nobody listens there any more."""
        if not self._shaken.is_set():
            if self.is_initiator:
                self.wire.failure = ConnectionRefusedError("nobody listens there")
                self.wire.abort("nobody listens there")
        elif self._doubt.raise_at(trio.current_time()):
            self._machine.send_ping(0)
            self.flush()
            self._sooner.set()

    def is_reset_by(self, data: bytes) -> bool:
        """See `Machine.is_reset_by`; then it is over."""
        if not self._machine.is_reset_by(data):
            return False
        self._over()
        self.wire.abort("the peer has lost the connection")
        return True

    def flush(self) -> None:
        """Hand on what has come, and send what is to be sent. Within itself: no-op."""
        if self._flushing:
            return
        self._flushing = True
        with self._blaming_the_peer():
            self._hear()
            if not self.is_closed:
                self._budget.receive(self, self._machine.held())
            if not self.is_closed:
                self._transmit()
                self._hear()  # of ids that were given out: the answer may be to one of them
        self._flushing = False
        if self.is_closed:
            return
        for stream in [one for one in self._blocked if self.unacknowledged(one.number) <= SEND_BUFFER_BYTES // 2]:
            self._blocked.remove(stream)
            stream.wake()
        if (self._machine.get_timer() or 0.0) < self._wakes_at:
            self._sooner.set()

    @contextmanager
    def _blaming_the_peer(self) -> Iterator[None]:
        """What one peer sends must not end the others, whatever aioquic makes of it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self.wire.failure = error
            self.wire.abort(f"sent what aioquic could not take: {error!r}")

    def _hear(self) -> None:
        while not self.is_closed and (event := self._machine.next_event()) is not None:
            self._handle(event)

    def _transmit(self) -> None:
        for data, remote in self._machine.datagrams_to_send(trio.current_time()):
            self._send(data, remote)

    def hang_up(self) -> None:
        """Tell the peer, as far as one datagram goes, and be over. Again: no-op."""
        if self.event_shutting_down.is_set():
            return
        self._over()
        try:
            self._machine.close()
            if self._machine.has_begun:
                self._transmit()
        except Exception as error:  # noqa: BLE001 - it is over all the same, and the peer will notice
            self.wire.failure = self.wire.failure or error

    def _over(self) -> None:
        self.event_shutting_down.set()
        self._budget.forget(self)
        self._opened.close()
        self._shaken.set()
        self._sooner.set()
        for stream in list(self._streams.values()):
            stream.was_reset(0)
            stream.unwanted()

    # --- what the machine says -----------------------------------------------------------------------------------

    def _handle(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived() | events.StreamReset() | events.StopSendingReceived():
                if (stream := self._streams.get(event.stream_id) or self._opened_by(event.stream_id)) is not None:
                    self._handle_of(stream, event)
            case events.HandshakeCompleted():
                self._prove(event.alpn_protocol)
            case events.ConnectionIdIssued():
                self._on_ids(self, event.connection_id, True)
            case events.ConnectionIdRetired():
                self._on_ids(self, event.connection_id, False)
            case events.ConnectionTerminated():
                self._over()
                self.wire.failure = self.wire.failure or trio.BrokenResourceError(_why(event))
                self.wire.abort(_why(event))

    def _handle_of(self, stream: QuicStream, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived():
                stream.arrived(event.data, ended=event.end_stream)
            case events.StreamReset():
                stream.was_reset(self._machine.let_go(stream.number))
            case events.StopSendingReceived():
                stream.unwanted()

    def _opened_by(self, number: int) -> QuicStream | None:
        """The stream that a peer opens by speaking of it, be it to give it up: what it said before may come later."""
        if (number % 2 == 0) == self.is_initiator or number in self._begun:
            return None
        self._begun = {one for one in self._begun if self._machine.knows(one)} | {number}
        stream = self._stream(number)
        try:
            self._opened.send_nowait(stream)
        except trio.WouldBlock:  # opened and given up faster than anybody can look at them
            stream.give_up()
        return stream

    def _prove(self, alpn: str | None) -> None:
        try:
            self.peer_id = self._machine.peer(alpn, self._expected)
            self._shaken.set()
        except HandshakeFailure as error:
            self.wire.failure = error
            self.wire.abort(str(error))

    # --- what streams ask (see Carrier) --------------------------------------------------------------------------

    def send(self, number: int, data: bytes, *, ended: bool = False) -> None:
        """See Carrier."""
        if not self.event_shutting_down.is_set():
            self._machine.send_stream_data(number, data, end_stream=ended)
            self.flush()

    def unacknowledged(self, number: int) -> int:
        """See Carrier."""
        return self._machine.unacknowledged(number)

    def wake_when_acknowledged(self, stream: QuicStream) -> None:
        """See Carrier."""
        self._blocked.add(stream)

    def taken(self, number: int, total: int, more: int) -> None:
        """See Carrier."""
        if self._machine.taken(number, total, more) and not self.event_shutting_down.is_set():
            self.flush()

    def stop(self, number: int, *, writing: bool, reading: bool) -> None:
        """See Carrier."""
        if not self.event_shutting_down.is_set():
            self._machine.stop(number, writing=writing, reading=reading)
            self.flush()

    def drop(self, stream: QuicStream) -> None:
        """See Carrier."""
        self._streams.pop(stream.number, None)
        self._blocked.discard(stream)

    # --- what py-libp2p and the node ask -------------------------------------------------------------------------

    def _stream(self, number: int) -> QuicStream:
        stream = self._streams[number] = QuicStream(number, self, self)
        return stream

    async def open_stream(self) -> QuicStream:
        """A new stream; the peer hears of it with its first bytes. Raises MuxedConnUnavailable."""
        if self.event_shutting_down.is_set():
            raise MuxedConnUnavailable("the connection is over")
        number = self._machine.get_next_available_stream_id()
        self._machine.send_stream_data(number, b"")
        return self._stream(number)

    async def ask_for_life(self) -> None:
        """See `MuxedConnection.ask_for_life`."""
        if not self.event_shutting_down.is_set():
            self._machine.send_ping(0)
            self.flush()

    def held(self) -> int:
        """See `MuxedConnection.held`."""
        return self._machine.held()

    @property
    def is_established(self) -> bool:
        """Whether it is there for streams."""
        return self._shaken.is_set() and not self.is_closed


def _why(event: events.ConnectionTerminated) -> str:
    if event.frame_type is None and not event.error_code:
        return "closed by the peer"
    said = "".join(filter(str.isprintable, event.reason_phrase))[:_MAX_REASON_CHARACTERS]  # perhaps by the peer
    return f"QUIC error {event.error_code:#x} {said}".rstrip()
