"""``access_rules``: every rule about who may be connected to that was ever made while a node ran."""

from typing import Annotated

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.access import PeerAllowed, PeerBlocked, PeerDisallowed, PeerUnblocked
from mesh.projections.projection import Key, Projection, Row


class AccessRuleRow(Row, frozen=True, kw_only=True, gc=False):
    """One peer or network on one list. Rules of the configuration are not events, and not here."""

    node: Annotated[str, "PeerId of the node whose rule it is"]
    list: Annotated[str, "block or allow"]
    party: Annotated[str, "PeerId, or network in CIDR notation"]
    kind: Annotated[str, "peer or network"]
    state: Annotated[str, "active or lifted"] = "active"
    actor: Annotated[str | None, "Who made it"] = None
    reason: Annotated[str | None, "Why"] = None
    since_at: Annotated[str | None, "When it was last made"] = None
    lifted_at: Annotated[str | None, "When it was lifted; NULL: it is active"] = None
    lifted_by: Annotated[str | None, "Who lifted it"] = None
    lift_reason: Annotated[str | None, "Why it was lifted"] = None
    last_position: Annotated[int, "Position of the last event in this row"]


_LISTS = {PeerBlocked: "block", PeerUnblocked: "block", PeerAllowed: "allow", PeerDisallowed: "allow"}


def _made(_row: AccessRuleRow | None, event: Event, fact: PeerBlocked | PeerAllowed) -> AccessRuleRow:
    return AccessRuleRow(
        node=event.origin,
        list=_LISTS[type(fact)],
        party=fact.party,
        kind=fact.kind,
        actor=fact.actor,
        reason=fact.reason or None,
        since_at=event.time,
        last_position=event.position,
    )


def _lifted(row: AccessRuleRow | None, event: Event, fact: PeerUnblocked | PeerDisallowed) -> AccessRuleRow:
    before = row or AccessRuleRow(
        node=event.origin, list=_LISTS[type(fact)], party=fact.party, kind=fact.kind, last_position=event.position
    )
    return replace(
        before,
        state="lifted",
        lifted_at=event.time,
        lifted_by=fact.actor,
        lift_reason=fact.reason or None,
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    fact = event.fact
    assert isinstance(fact, PeerBlocked | PeerAllowed | PeerUnblocked | PeerDisallowed)
    return (fact.party, _LISTS[type(fact)], event.origin)


ACCESS_RULES = Projection(
    name="access_rules",
    version=1,
    row=AccessRuleRow,
    key=("party", "list", "node"),
    key_of=_key,
    handlers={PeerBlocked: _made, PeerAllowed: _made, PeerUnblocked: _lifted, PeerDisallowed: _lifted},
    begins=frozenset({PeerBlocked, PeerAllowed}),
)
