"""``experts``: who offers what: this node's own experts, and those that peers advertise."""

from typing import Annotated, Any

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.experts import (
    ExpertDeregistered,
    ExpertEjected,
    ExpertExpired,
    ExpertOffered,
    ExpertReadmitted,
    ExpertRegistered,
)
from mesh.events.vocabulary.node import NodeStarted
from mesh.projections.folds.common import later, own_subject
from mesh.projections.projection import Key, Projection, Row, Sweep


class ExpertRow(Row, frozen=True, kw_only=True, gc=False):
    """One expert of one peer, as one node knows it."""

    node: Annotated[str, "PeerId of the node that knows it so"]
    peer: Annotated[str, "PeerId of the peer that serves it; equal to node for the node's own"]
    expert: Annotated[str, "Name of the expert, unique on its peer"]
    local: Annotated[bool, "Whether it is the node's own"]
    state: Annotated[str, "active, expired (offer withdrawn or not renewed) or deregistered"] = "active"
    backend: Annotated[str | None, "What runs it; known of own experts only"] = None
    model: Annotated[str, "Model behind it; may be empty"] = ""
    domains: Annotated[tuple[str, ...], "JSON list of the domains that it answers in"] = ()
    concurrency: Annotated[int, "Requests that run at once, now"] = 0
    queue_limit: Annotated[int, "Requests that may wait"] = 0
    in_flight: Annotated[int | None, "Requests running when that was last said"] = None
    queued: Annotated[int | None, "Requests waiting when that was last said"] = None
    available: Annotated[bool, "Whether it then took requests"] = True
    quality: Annotated[float | None, "Its operator's weight for it, 0 to 1"] = None
    offers: Annotated[int, "Offers so far"] = 0
    registered_at: Annotated[str | None, "Registered here; own experts only"] = None
    offered_at: Annotated[str | None, "Last offer"] = None
    valid_s: Annotated[float | None, "Seconds that it may be believed"] = None
    expires_at: Annotated[str | None, "Until when that is"] = None
    ended_at: Annotated[str | None, "When it was last expired or deregistered; NULL: active"] = None
    end_reason: Annotated[str | None, "Why"] = None
    last_position: Annotated[int, "Position of the last event in this row"]
    price: Annotated[float | None, "Declared price of 1000 tokens, in the unit of the mesh"] = None
    ejected_until: Annotated[str | None, "Left alone until then, and then for a probe to answer; NULL: is asked"] = None
    ejected_by: Annotated[str | None, "The rule: breaker_open or ejected (an outlier)"] = None
    ejected_for: Annotated[str | None, "What was seen of it"] = None
    ejections: Annotated[int | None, "How often it was ejected so far; NULL: never"] = None


def _row(row: ExpertRow | None, event: Event, peer: str, expert: str) -> ExpertRow:
    local = peer == event.origin
    return row or ExpertRow(node=event.origin, peer=peer, expert=expert, local=local, last_position=event.position)


def _registered(row: ExpertRow | None, event: Event, fact: ExpertRegistered) -> ExpertRow:
    return replace(
        _row(row, event, own_subject(event), fact.expert),
        state="active",
        backend=fact.backend,
        model=fact.model,
        domains=fact.domains,
        concurrency=fact.concurrency,
        queue_limit=fact.queue_limit,
        in_flight=0,
        queued=0,
        quality=fact.quality,
        price=fact.price,
        available=True,
        registered_at=event.time,
        ended_at=None,
        end_reason=None,
        last_position=event.position,
    )


def _offered(row: ExpertRow | None, event: Event, fact: ExpertOffered) -> ExpertRow:
    before = _row(row, event, fact.peer, fact.expert)
    return replace(
        before,
        state="active",
        model=fact.model,
        domains=fact.domains,
        concurrency=fact.concurrency,
        queue_limit=fact.queue_limit,
        in_flight=fact.in_flight,
        queued=fact.queued,
        available=fact.available,
        quality=fact.quality,
        price=fact.price,
        offers=before.offers + 1,
        offered_at=event.time,
        valid_s=fact.valid_s,
        ended_at=None,
        end_reason=None,
        last_position=event.position,
    )


def _ended(row: ExpertRow, event: Event, state: str, reason: str) -> ExpertRow:
    return replace(
        row,
        state=state,
        available=False,
        ended_at=event.time,
        end_reason=reason,
        last_position=event.position,
    )


def _expired(row: ExpertRow | None, event: Event, fact: ExpertExpired) -> ExpertRow:
    return _ended(_row(row, event, fact.peer, fact.expert), event, "expired", fact.reason)


def _deregistered(row: ExpertRow | None, event: Event, fact: ExpertDeregistered) -> ExpertRow:
    return _ended(_row(row, event, own_subject(event), fact.expert), event, "deregistered", fact.reason)


def _ejected(row: ExpertRow | None, event: Event, fact: ExpertEjected) -> ExpertRow | None:
    if row is None:
        return None
    return replace(
        row,
        ejected_until=later(event.time, fact.for_s),
        ejected_by=fact.rule,
        ejected_for=fact.detail,
        ejections=(row.ejections or 0) + 1,
        last_position=event.position,
    )


def _readmitted(row: ExpertRow | None, event: Event, _fact: ExpertReadmitted) -> ExpertRow | None:
    if row is None:
        return None
    return replace(row, ejected_until=None, ejected_by=None, ejected_for=None, last_position=event.position)


def _node_started(row: ExpertRow, event: Event, _fact: NodeStarted) -> ExpertRow:
    """A node registers what it serves at each start; what it knew of others is old news by then."""
    return _ended(row, event, "deregistered" if row.local else "expired", "the node restarted")


def _with_expiry(row: ExpertRow) -> ExpertRow:
    if row.local or row.offered_at is None or row.valid_s is None:
        return row
    return replace(row, expires_at=later(row.offered_at, row.valid_s))


def _was_active(event: Event) -> dict[str, tuple[str, ...]]:
    return {"state": ("active",), "node": (event.origin,)}


def _key(event: Event) -> Key | None:
    fact: Any = event.fact
    own = isinstance(fact, ExpertRegistered | ExpertDeregistered)
    peer = own_subject(event) if own else fact.peer
    return (peer, fact.expert, event.origin)


EXPERTS = Projection(
    name="experts",
    version=3,
    row=ExpertRow,
    key=("peer", "expert", "node"),
    key_of=_key,
    handlers={
        ExpertRegistered: _registered,
        ExpertOffered: _offered,
        ExpertExpired: _expired,
        ExpertDeregistered: _deregistered,
        ExpertEjected: _ejected,
        ExpertReadmitted: _readmitted,
    },
    sweeps={NodeStarted: Sweep(_was_active, _node_started)},
    indexes=(("state",),),
    finish=_with_expiry,
)
