"""Streams between peers and the node: who may open one, and where its bytes go."""

import itertools
from collections.abc import Awaitable, Callable

import trio
from libp2p.abc import INetStream
from libp2p.protocol_muxer.exceptions import MultiselectError

from mesh.p2p.host import wire
from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.complaints import Complaints
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.control import Control, connect_local
from mesh.p2p.host.damping import Damper
from mesh.p2p.host.delimited import PeerFault
from mesh.p2p.host.negotiation import negotiate
from mesh.p2p.host.pump import STREAM_ENDED, Pump
from mesh.p2p.host.settings import HostSettings
from mesh.p2p.overlay import StreamRefused

# Of the streams that a peer with our limits takes from us, these are for gossip and identify.
_RESERVED_STREAMS = 2
# Refused streams that a connection survives: so many at once, and so many a second.
_STREAM_FLOOD = 100
_STREAM_FLOOD_PER_S = 1.0

StreamHandler = Callable[[INetStream], Awaitable[None]]


class HostStreams:
    """Joins each stream of the node's protocols to a local connection; counts all that peers open.

    ``on_misbehaved`` ends a connection for a rule that its peer broke.
    """

    def __init__(
        self,
        settings: HostSettings,
        control: Control,
        connections: Connections,
        complaints: Complaints,
        *,
        on_misbehaved: Callable[[Connection, str, str], None],
    ) -> None:
        self._settings = settings
        self._control = control
        self._connections = connections
        self._complaints = complaints
        self._on_misbehaved = on_misbehaved
        self._closed_by_node: dict[int, trio.Event] = {}
        self._floods = Damper(burst=_STREAM_FLOOD, per_s=_STREAM_FLOOD_PER_S)
        self._ids = itertools.count(1)

    def let_go(self, stream: int) -> None:
        """The node has closed its end of a stream."""
        closed = self._closed_by_node.get(stream)
        if closed is not None:
            closed.set()

    async def open(self, command: wire.OpenStream) -> None:
        """Open a stream for the node and serve it until it ends. Raises StreamRefused."""
        connection = self._connections.of(command.peer)
        if connection is None:
            raise StreamRefused(f"not connected to {command.peer}", remedy="Dial it first.")
        limit = self._settings.limits.max_streams_per_peer - _RESERVED_STREAMS
        if connection.outbound_streams >= limit:
            raise StreamRefused(
                f"{connection.outbound_streams} streams to {command.peer} are open or being opened (limit: {limit})",
                remedy="Close streams that are no longer used.",
            )
        connection.outbound_streams += 1
        try:
            stream = await negotiate(connection, command.protocol)
            await self._join(stream, command.id, command.peer, command.protocol)
        finally:
            connection.outbound_streams -= 1

    def guarded(self, handle: StreamHandler) -> StreamHandler:
        """``handle`` for streams that may be opened.

        Nothing that a peer does on one raises into py-libp2p: it would end the host.
        """

        async def guarded(stream: INetStream) -> None:
            connection = self._connections.add(stream.swarm_conn)  # type: ignore[attr-defined]
            if connection is None or not self._may_open(connection):
                await stream.reset()
                return
            connection.inbound_streams += 1
            try:
                await handle(stream)
            except (*STREAM_ENDED, MultiselectError, trio.TooSlowError):
                await stream.reset()
            except PeerFault as fault:
                self._on_misbehaved(connection, fault.rule, fault.detail)
            except Exception as error:  # noqa: BLE001 - the peer's fault: recorded, and the peer dropped
                self._on_misbehaved(connection, "stream", repr(error))
            finally:
                connection.inbound_streams -= 1

        return guarded

    def _may_open(self, connection: Connection) -> bool:
        limits = self._settings.limits
        limit = limits.max_streams_per_peer
        theirs = sum(one.inbound_streams for one in self._connections.all_of(connection.peer)) + 1
        everybodys = sum(one.inbound_streams for one in self._connections) + 1
        if theirs > limit:
            refusal = Refusal("max_streams_per_peer", str(limit), str(theirs))
        elif everybodys > limits.max_streams:
            refusal = Refusal("max_streams", str(limits.max_streams), str(everybodys))
        else:
            return True
        self._complaints.refused(connection.wire.address, refusal, connection.peer)
        if self._floods.admit(connection.name, trio.current_time()) is None:
            self._on_misbehaved(connection, "stream_flood", f"over {_STREAM_FLOOD} streams above the limit of {limit}")
        return False

    async def accept(self, stream: INetStream) -> None:
        """Serve a stream that a peer opened until it ends."""
        await self._join(stream, 0, str(stream.muxed_conn.peer_id), str(stream.get_protocol()))

    async def _join(self, stream: INetStream, command_id: int, peer: str, protocol: str) -> None:
        """Announce a stream and pump its bytes until it ends."""
        stream_id = next(self._ids)
        closed = self._closed_by_node[stream_id] = trio.Event()
        self._control.send(wire.StreamOpened(command_id, stream_id, peer, protocol))
        connection = self._connections.carrying(stream)
        try:
            if connection is not None:
                connection.joined_streams += 1
            await Pump(stream, await connect_local(self._settings, stream_id), closed).run()
        finally:
            if connection is not None:
                connection.joined_streams -= 1
            del self._closed_by_node[stream_id]
