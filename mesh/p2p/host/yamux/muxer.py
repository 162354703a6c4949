"""Agreeing on Yamux over a connection that has just been secured."""

from contextvars import ContextVar

from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import Yamux

from mesh.p2p.host.ciphers import cipher_of
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.wires import ByteWire
from mesh.p2p.host.yamux.connection import YamuxConnection
from mesh.p2p.host.yamux.frames import PROTOCOL

# The wire that is being upgraded in this task.
current_wire: ContextVar[ByteWire] = ContextVar("current_wire")


class YamuxMuxer(MuxerMultistream):
    """Negotiates Yamux and nothing else."""

    def __init__(self, budget: ReceiveBudget) -> None:
        super().__init__({TProtocol(PROTOCOL): Yamux})  # asked by its name alone
        self._budget = budget

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """A `YamuxConnection` over the wire that is being upgraded in this task. Raises MultiselectError."""
        await self.select_transport(conn)
        return YamuxConnection(
            cipher_of(conn),
            peer_id,
            current_wire.get(),
            self._budget,
            initiator=conn.is_initiator,
            security=getattr(conn, "negotiated_security_protocol", ""),
        )
