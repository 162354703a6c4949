"""``alert_history``: each step of each alert, with its actor and evidence."""

from typing import Annotated, Any

from mesh.events.envelope import Event
from mesh.events.vocabulary.alerts import AlertAcknowledged, AlertPending, AlertRaised, AlertResolved
from mesh.projections.projection import Key, Projection, Row


class AlertStepRow(Row, frozen=True, kw_only=True, gc=False):
    """One step."""

    position: Annotated[int, "Position of the event that records it"]
    alert: Annotated[str, "Id of the alert: rule/target"]
    node: Annotated[str, "PeerId of the node that watches"]
    step: Annotated[str, "pending, raised, acknowledged or resolved"]
    happened_at: Annotated[str, "When"]
    severity: Annotated[str | None, "info, warning, error or critical; pending and raised only"]
    summary: Annotated[str | None, "What is wrong, in a sentence; pending and raised only"]
    actor: Annotated[str | None, "Who acknowledged it"]
    note: Annotated[str | None, "What they wrote, or why it is over"]
    lasted_s: Annotated[float | None, "raised: seconds that it held before; resolved: seconds that it was open"]
    evidence: Annotated[dict[str, float], "JSON object: the figures behind the step"]
    last_position: Annotated[int, "Position of the last event in this row"]


def _pending(_row: None, event: Event, fact: AlertPending) -> AlertStepRow:
    return _step(event, fact.alert, "pending", severity=fact.severity, summary=fact.summary, evidence=fact.evidence)


def _raised(_row: None, event: Event, fact: AlertRaised) -> AlertStepRow:
    return _step(
        event,
        fact.alert,
        "raised",
        severity=fact.severity,
        summary=fact.summary,
        lasted_s=fact.held_s,
        evidence=fact.evidence,
    )


def _acknowledged(_row: None, event: Event, fact: AlertAcknowledged) -> AlertStepRow:
    return _step(event, fact.alert, "acknowledged", actor=fact.actor, note=fact.note or None)


def _resolved(_row: None, event: Event, fact: AlertResolved) -> AlertStepRow:
    return _step(event, fact.alert, "resolved", note=fact.reason, lasted_s=fact.open_s, evidence=fact.evidence)


def _step(event: Event, alert: str, step: str, **columns: Any) -> AlertStepRow:  # noqa: ANN401 - columns differ
    blank: dict[str, Any] = {
        "severity": None,
        "summary": None,
        "actor": None,
        "note": None,
        "lasted_s": None,
        "evidence": {},
    }
    return AlertStepRow(
        position=event.position,
        alert=alert,
        node=event.origin,
        step=step,
        happened_at=event.time,
        last_position=event.position,
        **{**blank, **columns},
    )


def _key(event: Event) -> Key | None:
    return (event.position,)


ALERT_HISTORY = Projection(
    name="alert_history",
    version=1,
    row=AlertStepRow,
    key=("position",),
    key_of=_key,
    handlers={
        AlertPending: _pending,
        AlertRaised: _raised,
        AlertAcknowledged: _acknowledged,
        AlertResolved: _resolved,
    },
    indexes=(("alert",),),
    append_only=True,
)
