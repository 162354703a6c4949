"""``peers``: every other node that was heard of, and how it stands."""

from typing import Annotated, Any

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.health import PeerSampled
from mesh.events.vocabulary.network import (
    PeerConfirmedDown,
    PeerConnected,
    PeerDialFailed,
    PeerDisconnected,
    PeerDiscovered,
    PeerGreeted,
    PeerIdentified,
    PeerLeft,
    PeerMisbehaved,
    PeerPathChanged,
    PeerRefused,
    PeerRejoined,
    PeerSuspected,
)
from mesh.events.vocabulary.node import NodeStarted
from mesh.projections.projection import Key, Projection, Row, Sweep


class PeerRow(Row, frozen=True, kw_only=True, gc=False):
    """A peer as one node sees it."""

    node: Annotated[str, "PeerId of the node that sees it so"]
    peer: Annotated[str, "PeerId of the peer"]
    state: Annotated[str, "discovered, connected, suspected, down, disconnected, left or refused"] = "discovered"
    source: Annotated[
        str, "How it was last discovered: mdns, static, bootstrap, store, exchange, dht; empty: it came to us"
    ] = ""
    addresses: Annotated[tuple[str, ...], "JSON list of the multiaddrs known"] = ()
    address: Annotated[str | None, "Multiaddr of the last connection"] = None
    transport: Annotated[str | None, "Transport of the last connection"] = None
    direction: Annotated[str | None, "inbound or outbound: the last connection"] = None
    agent: Annotated[str | None, "Software that the peer says it runs"] = None
    protocols: Annotated[tuple[str, ...], "JSON list of the protocols that it says it speaks"] = ()
    discovered_at: Annotated[str | None, "First heard of"] = None
    connected_at: Annotated[str | None, "Last connection set up"] = None
    disconnected_at: Annotated[str | None, "Last connection lost"] = None
    disconnect_reason: Annotated[str | None, "Why that was"] = None
    last_seen_at: Annotated[str | None, "Last sign of life; as exact as health is sampled"] = None
    suspected_at: Annotated[str | None, "Heartbeats overdue since; NULL: they are not"] = None
    connects: Annotated[int, "Connections so far"] = 0
    disconnects: Annotated[int, "How often the last connection was lost"] = 0
    dials_failed: Annotated[int, "Dials that failed since the last connection"] = 0
    dial_error: Annotated[str | None, "What the last failed dial said"] = None
    refusals: Annotated[int, "Connections and streams that a rule turned away"] = 0
    misbehaviours: Annotated[int, "Times that it broke the protocol"] = 0
    last_offence: Annotated[str | None, "Rule that it last broke, or was last refused by"] = None
    last_position: Annotated[int, "Position of the last event in this row"]
    name: Annotated[str, "What it calls itself; empty: it has not said"] = ""
    role: Annotated[str, "node, or what else it says it is; empty: it has not said"] = ""


def _row(row: PeerRow | None, event: Event) -> PeerRow:
    if row is not None:
        return row
    peer: str = _fact(event).peer
    return PeerRow(node=event.origin, peer=peer, discovered_at=event.time, last_position=event.position)


def _fact(event: Event) -> Any:  # noqa: ANN401 - every fact folded here names a peer
    return event.fact


def _merged(known: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return known if set(new) <= set(known) else tuple(sorted({*known, *new}))


def _discovered(row: PeerRow | None, event: Event, fact: PeerDiscovered) -> PeerRow:
    row = _row(row, event)
    return replace(
        row,
        source=fact.source,
        addresses=_merged(row.addresses, fact.addresses),
        last_position=event.position,
    )


def _dial_failed(row: PeerRow | None, event: Event, fact: PeerDialFailed) -> PeerRow:
    row = _row(row, event)
    return replace(row, dials_failed=row.dials_failed + 1, dial_error=fact.error, last_position=event.position)


def _connected(row: PeerRow | None, event: Event, fact: PeerConnected) -> PeerRow:
    row = _row(row, event)
    return replace(
        row,
        state="connected",
        address=fact.address,
        transport=fact.transport,
        direction=fact.direction,
        connected_at=event.time,
        last_seen_at=event.time,
        suspected_at=None,
        connects=row.connects + 1,
        dials_failed=0,
        dial_error=None,
        last_position=event.position,
    )


def _path_changed(row: PeerRow | None, event: Event, fact: PeerPathChanged) -> PeerRow:
    row = _row(row, event)
    return replace(row, address=fact.address, transport=fact.transport, last_position=event.position)


def _identified(row: PeerRow | None, event: Event, fact: PeerIdentified) -> PeerRow:
    row = _row(row, event)
    return replace(
        row,
        agent=fact.agent,
        protocols=fact.protocols,
        addresses=_merged(row.addresses, fact.addresses),
        last_seen_at=event.time,
        last_position=event.position,
    )


def _greeted(row: PeerRow | None, event: Event, fact: PeerGreeted) -> PeerRow:
    row = _row(row, event)
    return replace(row, name=fact.name, role=fact.role, last_seen_at=event.time, last_position=event.position)


def _left(row: PeerRow | None, event: Event, _fact: PeerLeft) -> PeerRow:
    return replace(_row(row, event), state="left", last_seen_at=event.time, last_position=event.position)


def _sampled(row: PeerRow | None, event: Event, fact: PeerSampled) -> PeerRow | None:
    """A sample with a round trip in it: heartbeats were answered."""
    if row is None or fact.latency_ms < 0 or fact.loss >= 1:
        return row
    return replace(row, last_seen_at=event.time, last_position=event.position)


def _disconnected(row: PeerRow | None, event: Event, fact: PeerDisconnected) -> PeerRow:
    row = _row(row, event)
    return replace(
        row,
        state=row.state if row.state in ("down", "left") else "disconnected",
        disconnected_at=event.time,
        disconnect_reason=fact.reason,
        suspected_at=None,
        disconnects=row.disconnects + 1,
        last_position=event.position,
    )


def _refused(row: PeerRow | None, event: Event, fact: PeerRefused) -> PeerRow:
    state = "refused" if row is None else row.state
    row = _row(row, event)
    return replace(row, state=state, refusals=row.refusals + 1, last_offence=fact.rule, last_position=event.position)


def _misbehaved(row: PeerRow | None, event: Event, fact: PeerMisbehaved) -> PeerRow:
    row = _row(row, event)
    return replace(row, misbehaviours=row.misbehaviours + 1, last_offence=fact.rule, last_position=event.position)


def _suspected(row: PeerRow | None, event: Event, _fact: PeerSuspected) -> PeerRow:
    row = _row(row, event)
    return replace(row, state="suspected", suspected_at=row.suspected_at or event.time, last_position=event.position)


def _confirmed_down(row: PeerRow | None, event: Event, _fact: PeerConfirmedDown) -> PeerRow:
    return replace(_row(row, event), state="down", last_position=event.position)


def _rejoined(row: PeerRow | None, event: Event, _fact: PeerRejoined) -> PeerRow:
    return replace(
        _row(row, event),
        state="connected",
        suspected_at=None,
        last_seen_at=event.time,
        last_position=event.position,
    )


def _node_started(row: PeerRow, event: Event, _fact: NodeStarted) -> PeerRow:
    """No connection outlives the node: those that were never reported lost are lost now."""
    return replace(
        row,
        state="disconnected",
        disconnected_at=event.time,
        disconnect_reason="the node restarted",
        suspected_at=None,
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    peer = _fact(event).peer
    return (peer, event.origin) if peer else None


def _seemed_connected(event: Event) -> dict[str, tuple[str, ...]]:
    return {"state": ("connected", "suspected"), "node": (event.origin,)}


PEERS = Projection(
    name="peers",
    version=3,
    row=PeerRow,
    key=("peer", "node"),
    key_of=_key,
    handlers={
        PeerDiscovered: _discovered,
        PeerDialFailed: _dial_failed,
        PeerConnected: _connected,
        PeerPathChanged: _path_changed,
        PeerIdentified: _identified,
        PeerGreeted: _greeted,
        PeerLeft: _left,
        PeerSampled: _sampled,
        PeerDisconnected: _disconnected,
        PeerRefused: _refused,
        PeerMisbehaved: _misbehaved,
        PeerSuspected: _suspected,
        PeerConfirmedDown: _confirmed_down,
        PeerRejoined: _rejoined,
    },
    sweeps={NodeStarted: Sweep(_seemed_connected, _node_started)},
)
