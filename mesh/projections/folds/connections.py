"""``connections``: each connection to a peer, from set-up to end."""

from typing import Annotated

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.network import PeerConnected, PeerDisconnected, PeerPathChanged
from mesh.events.vocabulary.node import NodeStarted
from mesh.projections.projection import Key, Projection, Row, Sweep

# The transport that a connection has when a relay passes it on.
RELAYED = "relay"


class ConnectionRow(Row, frozen=True, kw_only=True, gc=False):
    """One secured connection."""

    node: Annotated[str, "PeerId of the node at this end"]
    connection: Annotated[str, "Its name for the connection"]
    peer: Annotated[str, "PeerId at the other end"]
    state: Annotated[str, "open or closed"] = "open"
    address: Annotated[str | None, "Multiaddr of the other end"] = None
    transport: Annotated[str | None, "tcp, ws, wss, relay"] = None
    direction: Annotated[str | None, "inbound or outbound"] = None
    security: Annotated[str | None, "Protocol that secures it"] = None
    muxer: Annotated[str | None, "Protocol that multiplexes it"] = None
    opened_at: Annotated[str | None, "When it was up"] = None
    setup_ms: Annotated[float | None, "Milliseconds from the dial, or the accept, to that"] = None
    closed_at: Annotated[str | None, "When it ended"] = None
    close_reason: Annotated[str | None, "Why it ended"] = None
    lasted_s: Annotated[float | None, "Seconds that it was up"] = None
    last_position: Annotated[int, "Position of the last event in this row"]
    path: Annotated[str | None, "direct, or relayed while only a relay joins the two"] = None
    path_changed_at: Annotated[str | None, "When it became that; NULL: it always was"] = None


def _opened(_row: None, event: Event, fact: PeerConnected) -> ConnectionRow:
    return ConnectionRow(
        node=event.origin,
        connection=fact.connection,
        peer=fact.peer,
        address=fact.address,
        transport=fact.transport,
        path="relayed" if fact.transport == RELAYED else "direct",
        direction=fact.direction,
        security=fact.security,
        muxer=fact.muxer,
        opened_at=event.time,
        setup_ms=fact.setup_ms,
        last_position=event.position,
    )


def _closed(row: ConnectionRow | None, event: Event, fact: PeerDisconnected) -> ConnectionRow:
    before = row or ConnectionRow(
        node=event.origin, connection=fact.connection, peer=fact.peer, last_position=event.position
    )
    return replace(
        before,
        state="closed",
        closed_at=event.time,
        close_reason=fact.reason,
        lasted_s=fact.lasted_s,
        last_position=event.position,
    )


def _path_changed(row: ConnectionRow | None, event: Event, fact: PeerPathChanged) -> ConnectionRow:
    before = row or ConnectionRow(
        node=event.origin, connection=fact.connection, peer=fact.peer, last_position=event.position
    )
    return replace(
        before,
        address=fact.address,
        transport=fact.transport,
        path=fact.path,
        path_changed_at=event.time,
        last_position=event.position,
    )


def _node_started(row: ConnectionRow, event: Event, _fact: NodeStarted) -> ConnectionRow:
    return replace(
        row, state="closed", closed_at=event.time, close_reason="the node restarted", last_position=event.position
    )


def _was_open(event: Event) -> dict[str, tuple[str, ...]]:
    return {"state": ("open",), "node": (event.origin,)}


def _key(event: Event) -> Key | None:
    fact = event.fact
    assert isinstance(fact, PeerConnected | PeerDisconnected | PeerPathChanged)
    return (fact.connection, event.origin)


CONNECTIONS = Projection(
    name="connections",
    version=2,
    row=ConnectionRow,
    key=("connection", "node"),
    key_of=_key,
    handlers={PeerConnected: _opened, PeerDisconnected: _closed, PeerPathChanged: _path_changed},
    begins=frozenset({PeerConnected}),
    sweeps={NodeStarted: Sweep(_was_open, _node_started)},
    indexes=(("peer",),),
)
