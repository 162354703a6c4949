"""How the life of an alert changes what health remembers of it."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary import alerts
from mesh.health.records import MAX_RESOLVED, Alert, Watched


def _pending(state: Watched, event: Event, fact: alerts.AlertPending) -> None:
    state.resolved.pop(fact.alert, None)
    state.alerts[fact.alert] = Alert(
        rule=fact.rule,
        target=fact.target,
        phase="pending",
        severity=fact.severity,
        summary=fact.summary,
        episode=event.id,
        pending_at=event.at,
    )


def _raised(state: Watched, event: Event, fact: alerts.AlertRaised) -> None:
    if (alert := state.alerts.get(fact.alert)) is not None:
        state.alerts[fact.alert] = replace(
            alert, phase="raised", severity=fact.severity, summary=fact.summary, raised_at=event.at
        )


def _acknowledged(state: Watched, event: Event, fact: alerts.AlertAcknowledged) -> None:
    del event
    if (alert := state.alerts.get(fact.alert)) is not None:
        state.alerts[fact.alert] = replace(alert, phase="acknowledged", actor=fact.actor)


def _resolved(state: Watched, event: Event, fact: alerts.AlertResolved) -> None:
    alert = state.alerts.pop(fact.alert, None)
    if alert is not None and alert.raised_at:
        state.resolved[fact.alert] = event.at
        if len(state.resolved) > MAX_RESOLVED:
            del state.resolved[min(state.resolved, key=lambda name: (state.resolved[name], name))]


FOLDS: Mapping[type[Fact], Callable[[Watched, Event, Any], None]] = {
    alerts.AlertPending: _pending,
    alerts.AlertRaised: _raised,
    alerts.AlertAcknowledged: _acknowledged,
    alerts.AlertResolved: _resolved,
}
