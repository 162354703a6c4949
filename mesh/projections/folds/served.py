"""``served``: each request that one of this node's experts worked on, for whomever."""

from typing import Annotated

from mesh.events.envelope import Event
from mesh.events.vocabulary.requests import RequestServed
from mesh.projections.folds.common import counted, measured
from mesh.projections.projection import Key, Projection, Row


class ServedRow(Row, frozen=True, kw_only=True, gc=False):
    """One request as the serving node saw it."""

    position: Annotated[int, "Position of the event that records it"]
    request: Annotated[str, "Id of the request, given by the caller"]
    node: Annotated[str, "PeerId of the node that served it"]
    caller: Annotated[str, "PeerId that asked; equal to node for the node itself"]
    expert: Annotated[str, "Expert that worked on it"]
    outcome: Annotated[str, "answered, failed, cancelled, overloaded or expired"]
    error: Annotated[str | None, "What went wrong"]
    served_at: Annotated[str, "When it ended"]
    queued_ms: Annotated[float | None, "Milliseconds that it waited"]
    latency_ms: Annotated[float | None, "Milliseconds from its arrival to its end"]
    tokens_in: Annotated[int | None, "Prompt tokens; NULL: not known"]
    tokens_out: Annotated[int | None, "Answer tokens; NULL: not known"]
    answer_bytes: Annotated[int | None, "Size of the answer, in bytes"]
    answer_digest: Annotated[str | None, "Digest of the answer"]
    last_position: Annotated[int, "Position of the last event in this row"]
    kept: Annotated[str | None, "What is kept of another node's texts: digest, sealed or full"]
    content: Annotated[str | None, "What was asked; NULL unless the policy is full"]
    answer: Annotated[str | None, "The answer; NULL unless the policy is full"]
    sealed: Annotated[str | None, "Both as a JSON list, under a key; for ever unreadable once that is erased"]


def _served(_row: None, event: Event, fact: RequestServed) -> ServedRow:
    return ServedRow(
        position=event.position,
        request=fact.request,
        node=event.origin,
        caller=fact.caller,
        expert=fact.expert,
        outcome=fact.outcome,
        error=fact.error or None,
        served_at=event.time,
        queued_ms=measured(fact.queued_ms),
        latency_ms=measured(fact.latency_ms),
        tokens_in=counted(fact.tokens_in),
        tokens_out=counted(fact.tokens_out),
        answer_bytes=counted(fact.answer_bytes),
        answer_digest=fact.answer_digest or None,
        kept=fact.kept or None,
        content=fact.content or None,
        answer=fact.answer or None,
        sealed=fact.sealed or None,
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    return (event.position,)


SERVED = Projection(
    name="served",
    version=2,
    row=ServedRow,
    key=("position",),
    key_of=_key,
    handlers={RequestServed: _served},
    indexes=(("request",),),
    append_only=True,
)
