"""``requests``: each request that a node took in from a caller, from received to its one outcome."""

from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.requests import (
    Count,
    PartEnd,
    RequestAnswered,
    RequestAttemptFailed,
    RequestCancelled,
    RequestClassified,
    RequestCompleted,
    RequestDispatched,
    RequestFailed,
    RequestFellBack,
    RequestForgotten,
    RequestInterrupted,
    RequestReceived,
    RequestRejected,
    RequestRouted,
    Vote,
)
from mesh.projections.projection import Projection, Row


class RequestRow(Row, frozen=True, kw_only=True, gc=False):
    """One request and what became of it."""

    request: Annotated[str, "Id of the request (UUIDv7)"]
    node: Annotated[str, "PeerId of the node that took it in"]
    caller: Annotated[str, "Who asked"] = ""
    domain: Annotated[str, "What it is about"] = ""
    strategy: Annotated[str, "local_only, best_peer, distributed or consensus"] = ""
    policy: Annotated[str, "Policy that picks experts"] = ""
    state: Annotated[
        str, "received, routed, dispatched, answered; then completed, failed, rejected, cancelled or interrupted"
    ] = "received"
    received_at: Annotated[str | None, "When it came"] = None
    finished_at: Annotated[str | None, "When it had its outcome; NULL: in flight"] = None
    latency_ms: Annotated[float | None, "Milliseconds from received to finished"] = None
    timeout_ms: Annotated[int | None, "Milliseconds that the caller would wait"] = None
    fan_out: Annotated[int | None, "Experts that the strategy may ask at once"] = None
    peer: Annotated[str | None, "PeerId of the peer whose answer won"] = None
    expert: Annotated[str | None, "Expert whose answer won"] = None
    decisions: Annotated[int, "Routing decisions so far"] = 0
    attempts: Annotated[int, "Experts asked so far"] = 0
    attempts_failed: Annotated[int, "Attempts that gave no answer"] = 0
    first_token_ms: Annotated[float | None, "Milliseconds to the first piece of the last answer"] = None
    tokens_in: Annotated[int, "Prompt tokens over all answers, where known"] = 0
    tokens_out: Annotated[int, "Answer tokens over all answers, where known"] = 0
    agreement: Annotated[float | None, "Share of votes for the outcome, 0 to 1"] = None
    winners: Annotated[tuple[str, ...], "JSON list of peer/expert: all whose answer is in the outcome"] = ()
    votes: Annotated[tuple[Vote, ...], "JSON list of the votes, where answers were compared"] = ()
    failures: Annotated[tuple[str, ...], "JSON list of peer/expert: kind, of the parts that gave nothing"] = ()
    fallback: Annotated[str | None, "What it fell back to"] = None
    error_kind: Annotated[str | None, "Short name of the error that the caller got"] = None
    error_message: Annotated[str | None, "Its text"] = None
    content_digest: Annotated[str | None, "Digest of what was asked"] = None
    content_bytes: Annotated[int | None, "Size of what was asked, in bytes"] = None
    content: Annotated[str | None, "What was asked; NULL unless the content policy is full"] = None
    answer_digest: Annotated[str | None, "Digest of the answer"] = None
    answer_bytes: Annotated[int | None, "Size of the answer, in bytes"] = None
    answer: Annotated[str | None, "The answer; NULL unless the content policy is full"] = None
    first_position: Annotated[int, "Position of the first event in this row"]
    last_position: Annotated[int, "Position of the last event in this row"]
    kept: Annotated[str | None, "What is kept of the texts: digest, sealed or full"] = None
    sealed_content: Annotated[str | None, "What was asked, under the key of the request; NULL once forgotten"] = None
    sealed_answer: Annotated[str | None, "The answer, under the key of the request; NULL once forgotten"] = None
    forgotten_at: Annotated[str | None, "When the key was erased, so that nobody can read the texts any more"] = None
    cached_from: Annotated[str | None, "Request for which the answer was found; NULL: for this one"] = None
    consensus: Annotated[str | None, "JSON: how the votes were counted: agreement, threshold, quorum, weights"] = None
    domain_scores: Annotated[str | None, "JSON: what each domain was worth; NULL: the caller chose"] = None
    parts: Annotated[str | None, "JSON: what became of each part; NULL: it was not split"] = None


def _row(row: RequestRow | None, event: Event) -> RequestRow:
    if row is not None:
        return row
    position = event.position
    return RequestRow(request=_fact(event).request, node=event.origin, first_position=position, last_position=position)


def _fact(event: Event) -> Any:  # noqa: ANN401 - every fact folded here names a request
    return event.fact


def _received(_row: None, event: Event, fact: RequestReceived) -> RequestRow:
    position = event.position
    return RequestRow(
        request=fact.request,
        node=event.origin,
        caller=fact.caller,
        domain=fact.domain,
        strategy=fact.strategy,
        policy=fact.policy,
        received_at=event.time,
        timeout_ms=fact.timeout_ms,
        fan_out=fact.fan_out,
        content_digest=fact.content_digest,
        content_bytes=fact.content_bytes,
        content=fact.content or None,
        kept=fact.kept or None,
        sealed_content=fact.sealed or None,
        first_position=position,
        last_position=position,
    )


def _json(value: Count | dict[str, float] | tuple[PartEnd, ...] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _classified(row: RequestRow | None, event: Event, fact: RequestClassified) -> RequestRow:
    row = _row(row, event)
    return replace(row, domain=fact.domain, domain_scores=_json(fact.scores), last_position=event.position)


def _fell_back(row: RequestRow | None, event: Event, fact: RequestFellBack) -> RequestRow | None:
    if not fact.domain or fact.part:  # it is about what it was
        return row
    return replace(_row(row, event), domain=fact.domain, last_position=event.position)


def _routed(row: RequestRow | None, event: Event, _fact: RequestRouted) -> RequestRow:
    row = _row(row, event)
    state = "routed" if row.state == "received" else row.state
    return replace(row, state=state, decisions=row.decisions + 1, last_position=event.position)


def _dispatched(row: RequestRow | None, event: Event, _fact: RequestDispatched) -> RequestRow:
    row = _row(row, event)
    state = row.state if row.finished_at else "dispatched"
    return replace(row, state=state, attempts=row.attempts + 1, last_position=event.position)


def _answered(row: RequestRow | None, event: Event, fact: RequestAnswered) -> RequestRow:
    row = _row(row, event)
    return replace(
        row,
        state=row.state if row.finished_at else "answered",
        first_token_ms=fact.first_token_ms if fact.first_token_ms >= 0 else None,
        tokens_in=row.tokens_in + max(fact.tokens_in, 0),
        tokens_out=row.tokens_out + max(fact.tokens_out, 0),
        last_position=event.position,
    )


def _attempt_failed(row: RequestRow | None, event: Event, _fact: RequestAttemptFailed) -> RequestRow:
    row = _row(row, event)
    return replace(row, attempts_failed=row.attempts_failed + 1, last_position=event.position)


def _completed(row: RequestRow | None, event: Event, fact: RequestCompleted) -> RequestRow:
    peer, _, expert = fact.winners[0].partition("/") if fact.winners else ("", "", "")
    row = _row(row, event)
    return replace(
        row,
        state="completed",
        finished_at=event.time,
        latency_ms=fact.latency_ms,
        peer=peer or None,
        expert=expert or None,
        agreement=fact.agreement,
        winners=fact.winners,
        votes=fact.votes,
        consensus=_json(fact.count),
        failures=fact.failures,
        fallback=fact.fallback or None,
        cached_from=fact.cached_from or None,
        answer_digest=fact.answer_digest,
        answer_bytes=fact.answer_bytes,
        answer=fact.answer or None,
        sealed_answer=None if row.forgotten_at else fact.sealed or None,
        parts=_json(fact.parts or None),
        last_position=event.position,
    )


def _failed(row: RequestRow | None, event: Event, fact: RequestFailed) -> RequestRow:
    row = replace(
        _row(row, event),
        votes=fact.votes,
        failures=fact.failures,
        consensus=_json(fact.count),
        parts=_json(fact.parts or None),
    )
    return _ended(row, event, "failed", fact.latency_ms, fact.kind, fact.message)


def _rejected(row: RequestRow | None, event: Event, fact: RequestRejected) -> RequestRow:
    row = replace(_row(row, event), caller=fact.caller)
    row = row if row.received_at else replace(row, received_at=event.time)
    return _ended(row, event, "rejected", None, fact.kind, fact.message)


def _cancelled(row: RequestRow | None, event: Event, fact: RequestCancelled) -> RequestRow:
    return _ended(_row(row, event), event, "cancelled", fact.latency_ms, "cancelled", fact.reason)


def _interrupted(row: RequestRow | None, event: Event, _fact: RequestInterrupted) -> RequestRow:
    message = "the node ended while the request was in flight"
    return _ended(_row(row, event), event, "interrupted", None, "interrupted", message)


def _ended(row: RequestRow, event: Event, state: str, latency_ms: float | None, kind: str, message: str) -> RequestRow:
    return replace(
        row,
        state=state,
        finished_at=event.time,
        latency_ms=latency_ms,
        error_kind=kind,
        error_message=message,
        last_position=event.position,
    )


def _forgotten(row: RequestRow | None, event: Event, _fact: RequestForgotten) -> RequestRow | None:
    if row is None:  # this node served it, and did not take it in
        return None
    at = row.forgotten_at or event.time
    return replace(row, forgotten_at=at, sealed_content=None, sealed_answer=None, last_position=event.position)


REQUESTS = Projection(
    name="requests",
    version=5,
    row=RequestRow,
    key=("request", "node"),
    key_of=attrgetter("fact.request", "origin"),
    handlers={
        RequestReceived: _received,
        RequestClassified: _classified,
        RequestFellBack: _fell_back,
        RequestRouted: _routed,
        RequestDispatched: _dispatched,
        RequestAnswered: _answered,
        RequestAttemptFailed: _attempt_failed,
        RequestCompleted: _completed,
        RequestFailed: _failed,
        RequestRejected: _rejected,
        RequestCancelled: _cancelled,
        RequestInterrupted: _interrupted,
        RequestForgotten: _forgotten,
    },
    begins=frozenset({RequestReceived}),
    indexes=(("received_at",),),
)
