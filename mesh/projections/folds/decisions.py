"""``decisions``: each routing decision, with all that it saw."""

from typing import Annotated

import msgspec

from mesh.events.envelope import Event
from mesh.events.vocabulary.requests import RequestRouted
from mesh.projections.projection import Key, Projection, Row


class DecisionRow(Row, frozen=True, kw_only=True, gc=False):
    """One decision. Recomputing it from the journal up to ``as_of`` gives the same text."""

    position: Annotated[int, "Position of the event that records it"]
    request: Annotated[str, "Id of the request"]
    attempt: Annotated[int, "Attempt that it was made for"]
    node: Annotated[str, "PeerId of the node that decided"]
    decided_at: Annotated[str, "When it was made"]
    policy: Annotated[str, "Policy that decided"]
    policy_version: Annotated[int, "Version of that policy"]
    as_of: Annotated[int, "Position of the journal whose state it saw"]
    chosen: Annotated[str | None, "JSON: what the decision calls chosen"]
    inputs: Annotated[str, "JSON: the arguments of the decision, exactly"]
    decision: Annotated[str, "JSON: its result, exactly: scores, exclusions and reasons"]
    last_position: Annotated[int, "Position of the last event in this row"]


class _Decision(msgspec.Struct):
    chosen: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Decision).decode


def _chosen(decision: msgspec.Raw) -> str | None:
    try:
        return bytes(_decode(decision).chosen).decode() or None
    except msgspec.ValidationError:
        return None  # the decision is not an object: it is kept whole, in its own column


def _routed(_row: None, event: Event, fact: RequestRouted) -> DecisionRow:
    return DecisionRow(
        position=event.position,
        request=fact.request,
        attempt=fact.attempt,
        node=event.origin,
        decided_at=event.time,
        policy=fact.policy,
        policy_version=fact.policy_version,
        as_of=fact.as_of,
        chosen=_chosen(fact.decision),
        inputs=bytes(fact.inputs).decode(),
        decision=bytes(fact.decision).decode(),
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    return (event.position,)


DECISIONS = Projection(
    name="decisions",
    version=1,
    row=DecisionRow,
    key=("position",),
    key_of=_key,
    handlers={RequestRouted: _routed},
    indexes=(("request", "attempt"),),
    append_only=True,
)
