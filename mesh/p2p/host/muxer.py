"""Yamux that cannot be broken by a cancelled writer, nor made to hold more than its share of memory by a peer."""

import struct
from contextvars import ContextVar

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID, Yamux

from mesh.p2p.host.muxed import MuxedConnection
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.wires import Wire

MAX_STREAM_WINDOW_BYTES = 1 << 20
MAX_BUFFERED_BYTES = 32 << 20
current_wire: ContextVar[Wire] = ContextVar("current_wire")

yamux.MAX_WINDOW_SIZE = MAX_STREAM_WINDOW_BYTES


async def _grant_when_half_is_used(stream: yamux.YamuxStream, *, bytes_read: int = 0) -> None:
    """Give the sender room again once half of the window has been read, as go-yamux does.

    py-libp2p's own says so after every other read, however small: a frame, and a message of Noise, for a byte.
    """
    del bytes_read
    async with stream.window_lock:
        unread = len(stream.conn.stream_buffers.get(stream.stream_id, b""))
        granted = stream.target_recv_window - stream.recv_window - unread
        if granted < stream.target_recv_window // 2:
            return
        stream.recv_window += granted
        granted += stream._apply_autotune_epoch(unread)  # noqa: SLF001 - larger windows for who is far or fast
    await stream.send_window_update(granted, skip_lock=True)


# It has no switch.
yamux.YamuxStream._auto_tune_and_send_window_update = (  # type: ignore[method-assign] # noqa: SLF001
    _grant_when_half_is_used  # type: ignore[assignment]
)


class ReceiveWindowExceeded(trio.TooSlowError):
    """The peer sent more than its windows allow; py-libp2p's reader ends the connection for this class of error."""


class SteadyYamux(Yamux, MuxedConnection):
    """Yamux over a `Wire`.

    A cancelled write advances the Noise nonce and so destroys the connection: writes are never cancelled.
    Windows that a peer ignores are enforced here, over all streams of the connection together, and by ``budget`` over
    all connections. ``refusal`` is set when the connection is given up for that.
    """

    def __init__(self, secured: ISecureConn, peer_id: ID, wire: Wire, budget: ReceiveBudget | None = None) -> None:
        super().__init__(secured, peer_id, is_initiator=secured.is_initiator)
        self.wire = wire
        self.budget = budget or ReceiveBudget(MAX_BUFFERED_BYTES)
        self._asking = False

    async def start(self) -> None:
        """Read until the connection is over; what it held is free then."""
        try:
            await super().start()
        finally:
            self.budget.forget(self)

    async def ask_for_life(self) -> None:
        """Ping. No-op while the last one is still being written."""
        if self._asking or self.event_shutting_down.is_set():
            return
        self._asking = True
        try:
            await self._ping()
        except (IOException, BaseLibp2pError):
            self.wire.abort("the connection broke")
        finally:
            self._asking = False

    async def _ping(self) -> None:
        await self._write_frame(struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, 0))
        self._ping_sent_time = trio.current_time()

    async def _write_frame(self, data: bytes) -> None:
        """Without what py-libp2p puts together for its log, whether anybody reads that or not."""
        with trio.CancelScope(shield=True):
            async with self._write_lock:
                await self.secured_conn.write(data)

    async def _read_data_body(self, length: int) -> bytes:
        buffered = self.held() + length
        if buffered > MAX_BUFFERED_BYTES:
            self.overflowed = True
            self.wire.ended("sent more than it may")
            raise ReceiveWindowExceeded
        self.budget.receive(self, buffered)
        if self.refusal is not None:
            raise ReceiveWindowExceeded
        return await super()._read_data_body(length)

    def held(self) -> int:
        """See `MuxedConnection.held`."""
        return sum(map(len, self.stream_buffers.values()))


class SteadyMuxer(MuxerMultistream):
    """Negotiates yamux and nothing else."""

    def __init__(self, budget: ReceiveBudget) -> None:
        super().__init__({TProtocol(PROTOCOL_ID): SteadyYamux})
        self._budget = budget

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """A `SteadyYamux` over the wire that is being upgraded in this task."""
        await self.select_transport(conn)
        muxed = SteadyYamux(conn, peer_id, current_wire.get(), self._budget)
        return self._annotate_connection(muxed, conn, TProtocol(PROTOCOL_ID))
