"""``attempts``: each time that a request was sent to an expert."""

from operator import attrgetter
from typing import Annotated, Any

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.node import NodeStarted
from mesh.events.vocabulary.requests import RequestAnswered, RequestAttemptFailed, RequestDispatched
from mesh.projections.folds.common import counted, measured
from mesh.projections.projection import Projection, Row, Sweep


class AttemptRow(Row, frozen=True, kw_only=True, gc=False):
    """One attempt and how it ended."""

    request: Annotated[str, "Id of the request"]
    attempt: Annotated[int, "1 is the request's first attempt"]
    node: Annotated[str, "PeerId of the node that asked"]
    peer: Annotated[str, "PeerId of the peer that was asked"]
    expert: Annotated[str, "Expert that was asked"]
    state: Annotated[str, "dispatched, answered, failed, or interrupted (the node ended first)"] = "dispatched"
    model: Annotated[str | None, "Model that answered"] = None
    dispatched_at: Annotated[str | None, "When it was sent"] = None
    finished_at: Annotated[str | None, "When it ended; NULL: in flight"] = None
    timeout_ms: Annotated[int | None, "Milliseconds left of the deadline when it was sent"] = None
    latency_ms: Annotated[float | None, "Milliseconds from sent to ended"] = None
    first_token_ms: Annotated[float | None, "Milliseconds to the first piece of the answer"] = None
    tokens_in: Annotated[int | None, "Prompt tokens; NULL: not known"] = None
    tokens_out: Annotated[int | None, "Answer tokens; NULL: not known"] = None
    answer_digest: Annotated[str | None, "Digest of the answer"] = None
    answer_bytes: Annotated[int | None, "Size of the answer, in bytes"] = None
    signature: Annotated[str | None, "The serving peer's signature over the answer, hex"] = None
    error_kind: Annotated[str | None, "Short name of what went wrong"] = None
    error_message: Annotated[str | None, "Its text"] = None
    retryable: Annotated[bool | None, "Whether another expert could be asked"] = None
    last_position: Annotated[int, "Position of the last event in this row"]
    purpose: Annotated[str | None, "first; probe (first, of an expert that was ejected), retry, hedge or moved"] = None
    part: Annotated[int | None, "Part of the request that it was for; NULL: all of it"] = None


def _row(row: AttemptRow | None, event: Event) -> AttemptRow:
    fact = _fact(event)
    return row or AttemptRow(
        request=fact.request,
        attempt=fact.attempt,
        node=event.origin,
        peer=fact.peer,
        expert=fact.expert,
        last_position=event.position,
    )


def _fact(event: Event) -> Any:  # noqa: ANN401 - every fact folded here names an attempt
    return event.fact


def _dispatched(_row: None, event: Event, fact: RequestDispatched) -> AttemptRow:
    return AttemptRow(
        request=fact.request,
        attempt=fact.attempt,
        node=event.origin,
        peer=fact.peer,
        expert=fact.expert,
        dispatched_at=event.time,
        timeout_ms=fact.timeout_ms,
        last_position=event.position,
        purpose=fact.purpose,
        part=fact.part or None,
    )


def _answered(row: AttemptRow | None, event: Event, fact: RequestAnswered) -> AttemptRow:
    return replace(
        _row(row, event),
        state="answered",
        model=fact.model or None,
        finished_at=event.time,
        latency_ms=measured(fact.latency_ms),
        first_token_ms=measured(fact.first_token_ms),
        tokens_in=counted(fact.tokens_in),
        tokens_out=counted(fact.tokens_out),
        answer_digest=fact.answer_digest,
        answer_bytes=fact.answer_bytes,
        signature=fact.signature or None,
        last_position=event.position,
    )


def _failed(row: AttemptRow | None, event: Event, fact: RequestAttemptFailed) -> AttemptRow:
    return replace(
        _row(row, event),
        state="failed",
        finished_at=event.time,
        latency_ms=measured(fact.latency_ms),
        error_kind=fact.kind,
        error_message=fact.message,
        retryable=fact.retryable,
        last_position=event.position,
    )


def _node_started(row: AttemptRow, event: Event, _fact: NodeStarted) -> AttemptRow:
    return replace(row, state="interrupted", finished_at=event.time, last_position=event.position)


def _was_in_flight(event: Event) -> dict[str, tuple[str, ...]]:
    return {"state": ("dispatched",), "node": (event.origin,)}


ATTEMPTS = Projection(
    name="attempts",
    version=2,
    row=AttemptRow,
    key=("request", "attempt", "node"),
    key_of=attrgetter("fact.request", "fact.attempt", "origin"),
    handlers={RequestDispatched: _dispatched, RequestAnswered: _answered, RequestAttemptFailed: _failed},
    begins=frozenset({RequestDispatched}),
    sweeps={NodeStarted: Sweep(_was_in_flight, _node_started)},
    indexes=(("peer", "expert"),),
)
