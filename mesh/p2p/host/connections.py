"""Which peers are connected. One peer has one connection in the eyes of the node, however many there are.

Two nodes that dial each other at once get two connections, one each way: both live, and the peer is reported as
connected once and as disconnected when the last is gone. A second connection of the *same* direction means that the
other side has lost the first: it replaces it. A direct connection is preferred to one through a relay, which is closed
once nothing runs on it any more.
"""

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.network.connection.swarm_connection import SwarmConn
from multiaddr import Multiaddr

from mesh.p2p.host.muxed import MuxedConnection
from mesh.p2p.host.wires import RELAYED, Wire
from mesh.p2p.overlay import Connected, Disconnected, OverlayFact, PathChanged

_SETTLE_POLL_S = 0.005


@dataclass(eq=False)
class Connection:
    """One secured, multiplexed connection."""

    name: str
    peer: str
    swarm: SwarmConn
    muxed: MuxedConnection
    wire: Wire
    inbound_streams: int = 0
    outbound_streams: int = 0
    protocols: frozenset[str] = frozenset()
    joined_streams: int = 0  # those of the node, whoever opened them
    observed: str = ""  # our address, as the peer sees it
    probe: bool = False  # made to see whether it can be made: not for streams while there is another

    @property
    def relayed(self) -> bool:
        """Whether it goes through a relay."""
        return self.wire.transport == RELAYED

    @property
    def direction(self) -> str:
        """Who dialled."""
        return "inbound" if self.wire.inbound else "outbound"


@dataclass
class _Presence:
    reported: str
    path: str
    connections: list[Connection] = field(default_factory=list)


class Connections(INotifee):
    """The book of connections. It is py-libp2p's notifee, and `run` lets it watch each until it ends."""

    def __init__(
        self,
        self_id: str,
        nursery: trio.Nursery,
        *,
        report: Callable[[OverlayFact], None],
        on_settled: Callable[[Wire], None],
    ) -> None:
        self._self_id = self_id
        self._nursery = nursery
        self._report = report
        self._on_settled = on_settled
        # Unique across restarts of this process, so that a name in the journal means one connection.
        self._names = (f"{secrets.token_hex(4)}-{number}" for number in itertools.count(1))
        self._by_peer: dict[str, _Presence] = {}
        self._by_muxed: dict[object, Connection] = {}
        self._probed: Counter[str] = Counter()
        self.on_connected: Callable[[Connection], None] = lambda _connection: None
        self.on_left: Callable[[Connection], None] = lambda _connection: None
        self.on_own_identity: Callable[[Connection], None] = lambda _connection: None
        self.is_denied: Callable[[Connection], str] = lambda _connection: ""

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_muxed.values()))

    @property
    def outbound(self) -> int:
        """How many we dialled."""
        return sum(not connection.wire.inbound for connection in self._by_muxed.values())

    def of(self, peer: str) -> Connection | None:
        """The connection to use for a new stream, or None."""
        connections = self.all_of(peer)
        return max(connections, key=_worth) if connections else None  # of equals the first, which is the newest

    def direct(self, peer: str) -> Connection | None:
        """The connection to use that needs no relay, or None."""
        best = self.of(peer)
        return None if best is None or best.relayed else best

    def dialled(self, peer: str) -> Connection | None:
        """A direct connection that we made, or None."""
        return next((one for one in self.all_of(peer) if not one.relayed and not one.wire.inbound), None)

    @contextmanager
    def probing(self, peer: str) -> Iterator[None]:
        """Another connection to the peer that is made meanwhile is only a trial."""
        self._probed[peer] += 1
        try:
            yield
        finally:
            self._probed[peer] -= 1
            if not self._probed[peer]:
                del self._probed[peer]

    def all_of(self, peer: str) -> list[Connection]:
        """Every connection to the peer, the newest first."""
        presence = self._by_peer.get(peer)
        return presence.connections[::-1] if presence is not None else []

    def carrying(self, stream: INetStream) -> Connection | None:
        """The connection of a stream."""
        return self._by_muxed.get(stream.muxed_conn)

    async def settled(self, wire: Wire) -> None:
        """Return once ``wire`` is a connection, or closed."""
        while not wire.settled and not wire.closed.is_set():  # noqa: ASYNC110 - it is short, and has no event
            await trio.sleep(_SETTLE_POLL_S)

    def add(self, swarm: SwarmConn) -> Connection | None:
        """Take a connection into the book; None when it is refused, or has ended already."""
        muxed = swarm.muxed_conn
        assert isinstance(muxed, MuxedConnection)
        if muxed in self._by_muxed:
            return self._by_muxed[muxed]
        if muxed.event_shutting_down.is_set() or muxed.wire.closed.is_set():
            return None
        connection = Connection(next(self._names), str(muxed.peer_id), swarm, muxed, muxed.wire)
        connection.wire.settled = True
        self._on_settled(connection.wire)
        if connection.peer == self._self_id:
            self.on_own_identity(connection)
            connection.wire.abort("it has our own identity")
            return None
        if denied := self.is_denied(connection):
            connection.wire.abort(denied)
            return None
        self._enter(connection)
        return self._by_muxed.get(muxed)

    def _enter(self, connection: Connection) -> None:
        presence = self._by_peer.get(connection.peer)
        for other in self.all_of(connection.peer):
            if (other.direction, other.relayed) == (connection.direction, connection.relayed):
                other.wire.abort("replaced by a newer connection")
                self.leave(other)
                presence = self._by_peer.get(connection.peer)
        if presence is None and connection.peer in self._probed and not connection.wire.inbound:
            connection.wire.abort("only tried, and the peer has gone")
            return
        self._by_muxed[connection.muxed] = connection
        if presence is None:
            presence = self._by_peer[connection.peer] = _Presence(connection.name, _path(connection))
            presence.connections.append(connection)
            self._report(_connected(connection))
        else:
            connection.probe = connection.peer in self._probed
            presence.connections.append(connection)
            self._tell_path(presence)
        self._nursery.start_soon(self._watch, connection)
        self.on_connected(connection)

    def _tell_path(self, presence: _Presence) -> None:
        best = max(reversed(presence.connections), key=_worth)
        if (path := _path(best)) != presence.path:
            presence.path = path
            address = f"{best.wire.address}/p2p/{best.peer}"
            self._report(PathChanged(best.peer, presence.reported, path, address, best.wire.transport))

    async def _watch(self, connection: Connection) -> None:
        await connection.muxed.event_shutting_down.wait()
        self.leave(connection)

    def leave(self, connection: Connection) -> None:
        """The connection is over; the node is told when it was the peer's last. Again: no-op."""
        if self._by_muxed.pop(connection.muxed, None) is None:
            return
        presence = self._by_peer[connection.peer]
        presence.connections.remove(connection)
        if not presence.connections:
            del self._by_peer[connection.peer]
            reason = connection.wire.end_reason or "closed by the peer"
            self._report(Disconnected(connection.peer, presence.reported, reason))
        else:
            self._tell_path(presence)
        self.on_left(connection)

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """See INotifee."""
        del network
        assert isinstance(conn, SwarmConn)
        self.add(conn)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """See INotifee. `_watch` has seen it by then."""

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """See INotifee."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """See INotifee."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """See INotifee."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """See INotifee."""


def _worth(connection: Connection) -> tuple[bool, bool]:
    return not connection.relayed, not connection.probe


def _path(connection: Connection) -> str:
    return "relayed" if connection.relayed else "direct"


def _connected(connection: Connection) -> Connected:
    wire = connection.wire
    return Connected(
        peer=connection.peer,
        connection=connection.name,
        address=f"{wire.address}/p2p/{connection.peer}",
        transport=wire.transport,
        direction=connection.direction,
        security=str(connection.swarm.get_negotiated_security_protocol() or ""),
        muxer=str(connection.swarm.get_negotiated_muxer_protocol() or ""),
        setup_ms=round((trio.current_time() - wire.opened_at) * 1000, 3),
    )
