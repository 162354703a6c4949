"""``alerts``: each condition that was ever worth an alert, and how it stands."""

from typing import Annotated, Any

from msgspec import field
from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.alerts import AlertAcknowledged, AlertPending, AlertRaised, AlertResolved
from mesh.projections.projection import Key, Projection, Row


class AlertRow(Row, frozen=True, kw_only=True, gc=False):
    """One condition of one thing; the times are those of its latest episode."""

    alert: Annotated[str, "Id of the alert: rule/target"]
    node: Annotated[str, "PeerId of the node that watches"]
    rule: Annotated[str, "Rule that it comes from"]
    target: Annotated[str, "What it is about"]
    state: Annotated[str, "pending, raised, acknowledged or resolved"] = "pending"
    severity: Annotated[str, "info, warning, error or critical"] = ""
    summary: Annotated[str, "What is wrong, in a sentence"] = ""
    raised: Annotated[int, "How often it was raised so far"] = 0
    pending_at: Annotated[str | None, "When the condition began to hold"] = None
    raised_at: Annotated[str | None, "When it had held for long enough; NULL: it has not"] = None
    acknowledged_at: Annotated[str | None, "When somebody took note of it"] = None
    acknowledged_by: Annotated[str | None, "Who"] = None
    note: Annotated[str | None, "What they wrote"] = None
    resolved_at: Annotated[str | None, "When the condition held no longer; NULL: it holds"] = None
    resolution: Annotated[str | None, "Why it is over"] = None
    open_s: Annotated[float | None, "Seconds that the episode lasted, once it is over"] = None
    evidence: Annotated[dict[str, float], "JSON object: the figures behind its last step"] = field(default_factory=dict)
    last_position: Annotated[int, "Position of the last event in this row"]


def _row(row: AlertRow | None, event: Event) -> AlertRow:
    alert = _fact(event).alert
    rule, _, target = alert.partition("/")
    return row or AlertRow(alert=alert, node=event.origin, rule=rule, target=target, last_position=event.position)


def _fact(event: Event) -> Any:  # noqa: ANN401 - every fact folded here names an alert
    return event.fact


def _pending(row: AlertRow | None, event: Event, fact: AlertPending) -> AlertRow:
    return replace(
        _new_episode(_row(row, event)),
        rule=fact.rule,
        target=fact.target,
        severity=fact.severity,
        summary=fact.summary,
        pending_at=event.time,
        evidence=fact.evidence,
        last_position=event.position,
    )


def _new_episode(row: AlertRow) -> AlertRow:
    return replace(
        row,
        state="pending",
        pending_at=None,
        raised_at=None,
        acknowledged_at=None,
        acknowledged_by=None,
        note=None,
        resolved_at=None,
        resolution=None,
        open_s=None,
    )


def _raised(row: AlertRow | None, event: Event, fact: AlertRaised) -> AlertRow:
    before = _row(row, event)
    before = before if before.state == "pending" else _new_episode(before)
    return replace(
        before,
        rule=fact.rule,
        target=fact.target,
        state="raised",
        severity=fact.severity,
        summary=fact.summary,
        raised=before.raised + 1,
        raised_at=event.time,
        evidence=fact.evidence,
        last_position=event.position,
    )


def _acknowledged(row: AlertRow | None, event: Event, fact: AlertAcknowledged) -> AlertRow:
    row = _row(row, event)
    return replace(
        row,
        state="acknowledged" if row.state == "raised" else row.state,
        acknowledged_at=event.time,
        acknowledged_by=fact.actor,
        note=fact.note or None,
        last_position=event.position,
    )


def _resolved(row: AlertRow | None, event: Event, fact: AlertResolved) -> AlertRow:
    return replace(
        _row(row, event),
        state="resolved",
        resolved_at=event.time,
        resolution=fact.reason,
        open_s=fact.open_s,
        evidence=fact.evidence,
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    return (_fact(event).alert, event.origin)


ALERTS = Projection(
    name="alerts",
    version=1,
    row=AlertRow,
    key=("alert", "node"),
    key_of=_key,
    handlers={
        AlertPending: _pending,
        AlertRaised: _raised,
        AlertAcknowledged: _acknowledged,
        AlertResolved: _resolved,
    },
    indexes=(("state",),),
)
