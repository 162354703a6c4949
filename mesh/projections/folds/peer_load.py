"""``peer_load``: what this node has asked of each expert of each peer, and how that went."""

from operator import attrgetter
from typing import Annotated, Any

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.node import NodeStarted
from mesh.events.vocabulary.requests import RequestAnswered, RequestAttemptFailed, RequestDispatched
from mesh.projections.projection import Projection, Row, Sweep

# Weight of the newest value in a moving average: x̄ ← x̄ + α (x - x̄), started at the first value.
ALPHA = 0.2
# Ends that say nothing about the expert: the caller went away.
_NOBODYS_FAULT = frozenset({"cancelled"})


class PeerLoadRow(Row, frozen=True, kw_only=True, gc=False):
    """One expert of one peer, as its caller knows it."""

    node: Annotated[str, "PeerId of the node that asks"]
    peer: Annotated[str, "PeerId of the peer that is asked"]
    expert: Annotated[str, "Expert that is asked"]
    in_flight: Annotated[int, "Attempts under way"] = 0
    dispatched: Annotated[int, "Attempts so far"] = 0
    answered: Annotated[int, "Of these, answered"] = 0
    failed: Annotated[int, "Of these, failed"] = 0
    cancelled: Annotated[int, "Of these, taken back by the caller"] = 0
    interrupted: Annotated[int, "Of these, cut off by the end of the asking node"] = 0
    failures_in_a_row: Annotated[int, "Failed since the last answer"] = 0
    success_rate: Annotated[float | None, "answered / (answered + failed), 0 to 1; NULL: neither yet"] = None
    recent_success_rate: Annotated[float | None, "Moving average of 1 for answered and 0 for failed (α = 0.2)"] = None
    latency_ms: Annotated[float | None, "Milliseconds that the last answer took"] = None
    ewma_latency_ms: Annotated[float | None, "Moving average of that (α = 0.2)"] = None
    max_latency_ms: Annotated[float | None, "The longest"] = None
    tokens_out: Annotated[int, "Answer tokens, where known"] = 0
    last_error_kind: Annotated[str | None, "Kind of the last failure"] = None
    last_answered_at: Annotated[str | None, "When it last answered"] = None
    last_failed_at: Annotated[str | None, "When it last failed"] = None
    last_position: Annotated[int, "Position of the last event in this row"]


def _row(row: PeerLoadRow | None, event: Event) -> PeerLoadRow:
    fact = _fact(event)
    return row or PeerLoadRow(node=event.origin, peer=fact.peer, expert=fact.expert, last_position=event.position)


def _fact(event: Event) -> Any:  # noqa: ANN401 - every fact folded here names a peer and an expert
    return event.fact


def _dispatched(row: PeerLoadRow | None, event: Event, _fact: RequestDispatched) -> PeerLoadRow:
    row = _row(row, event)
    return replace(row, in_flight=row.in_flight + 1, dispatched=row.dispatched + 1, last_position=event.position)


def _answered(row: PeerLoadRow | None, event: Event, fact: RequestAnswered) -> PeerLoadRow:
    row = _row(row, event)
    answered = row.answered + 1
    return replace(
        row,
        in_flight=max(row.in_flight - 1, 0),
        answered=answered,
        failures_in_a_row=0,
        success_rate=answered / (answered + row.failed),
        recent_success_rate=_moved(row.recent_success_rate, 1.0),
        latency_ms=fact.latency_ms,
        ewma_latency_ms=_moved(row.ewma_latency_ms, fact.latency_ms),
        max_latency_ms=max(row.max_latency_ms or 0.0, fact.latency_ms),
        tokens_out=row.tokens_out + max(fact.tokens_out, 0),
        last_answered_at=event.time,
        last_position=event.position,
    )


def _failed(row: PeerLoadRow | None, event: Event, fact: RequestAttemptFailed) -> PeerLoadRow:
    row = _row(row, event)
    in_flight = max(row.in_flight - 1, 0)
    if fact.kind in _NOBODYS_FAULT:
        return replace(row, in_flight=in_flight, cancelled=row.cancelled + 1, last_position=event.position)
    failed = row.failed + 1
    return replace(
        row,
        in_flight=in_flight,
        failed=failed,
        failures_in_a_row=row.failures_in_a_row + 1,
        success_rate=row.answered / (row.answered + failed),
        recent_success_rate=_moved(row.recent_success_rate, 0.0),
        last_error_kind=fact.kind,
        last_failed_at=event.time,
        last_position=event.position,
    )


def _moved(average: float | None, value: float) -> float:
    return value if average is None else average + ALPHA * (value - average)


def _node_started(row: PeerLoadRow, event: Event, _fact: NodeStarted) -> PeerLoadRow:
    """Nothing that the node asked before it ended is still under way."""
    if row.in_flight == 0:
        return row
    return replace(row, in_flight=0, interrupted=row.interrupted + row.in_flight, last_position=event.position)


def _of_node(event: Event) -> dict[str, tuple[str, ...]]:
    return {"node": (event.origin,)}


PEER_LOAD = Projection(
    name="peer_load",
    version=1,
    row=PeerLoadRow,
    key=("peer", "expert", "node"),
    key_of=attrgetter("fact.peer", "fact.expert", "origin"),
    handlers={RequestDispatched: _dispatched, RequestAnswered: _answered, RequestAttemptFailed: _failed},
    sweeps={NodeStarted: Sweep(_of_node, _node_started)},
)
