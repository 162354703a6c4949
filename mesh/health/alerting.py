"""Deciding on alerts: what the rules find, and what the journal says is open, give the next facts. Pure.

Deciding again after the facts are folded gives nothing, so an alert is raised once whatever restarts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mesh.errors import MeshError
from mesh.events.envelope import Fact
from mesh.events.vocabulary.alerts import AlertAcknowledged, AlertPending, AlertRaised, AlertResolved
from mesh.health.records import Alert
from mesh.health.rules.rule import Finding, Rule
from mesh.health.state import HealthState

# One cause with a thousand effects must not become a thousand alerts.
MAX_OPEN_PER_RULE = 100
# The journal keeps microseconds: a condition that is due within a millisecond is due.
_SOON_S = 0.001


class AlertNotOpen(MeshError):
    """There is no such alert to acknowledge, or it was acknowledged already."""


class _Case(NamedTuple):
    """One finding of one rule beside what is open about it, and since when its condition has held."""

    rule: Rule
    finding: Finding
    open: Alert | None
    since: float

    @property
    def alert(self) -> str:
        return alert_id(self.rule, self.finding.target)

    @property
    def due(self) -> float:
        return self.since + self.rule.for_s


def alert_id(rule: Rule, target: str) -> str:
    """``rule/target``: one condition of one thing has one alert."""
    return f"{rule.name}/{target}"


def evaluate(state: HealthState, rules: Sequence[Rule], now: float) -> list[Fact]:
    """The facts that bring the alerts up to date at ``now``, in order: pending, raised, resolved."""
    facts: list[Fact] = []
    watched: set[str] = set()
    for rule in rules:
        room = MAX_OPEN_PER_RULE - sum(alert.rule == rule.name for alert in state.alerts.values())
        for case in _cases(state, rule, now):
            watched.add(case.alert)
            if case.open is None and room <= 0:
                continue
            steps = list(_steps(case, now))
            room -= case.open is None and bool(steps)
            facts += steps
    facts += [
        _resolved(name, alert, "it is no longer watched", {}, now)
        for name, alert in state.alerts.items()
        if name not in watched
    ]
    return facts


def next_due(state: HealthState, rules: Sequence[Rule], now: float) -> float:
    """When the next pending alert is due to be raised, if nothing happens until then; infinity for never."""
    return min(
        (
            case.due
            for rule in rules
            for case in _cases(state, rule, now)
            if case.open is not None and case.open.phase == "pending" and case.finding.value is not None
        ),
        default=float("inf"),
    )


def acknowledge(state: HealthState, alert: str, actor: str, note: str) -> AlertAcknowledged:
    """Somebody has seen the alert. Raises AlertNotOpen, which names the alerts that are open."""
    found = state.alerts.get(alert)
    if found is not None and found.phase == "raised":
        return AlertAcknowledged(alert=alert, actor=actor, note=note)
    if found is not None and found.phase == "acknowledged":
        raise AlertNotOpen(f"alert {alert} was already acknowledged by {found.actor}", remedy="Nothing is left to do.")
    names = sorted(name for name, known in state.open_alerts().items() if known.phase == "raised")
    remedy = f"Open: {', '.join(names)}." if names else "No alert waits to be acknowledged."
    if found is not None:
        raise AlertNotOpen(f"alert {alert} is pending and not raised yet", remedy=remedy)
    if alert in state.resolved:
        raise AlertNotOpen(f"alert {alert} is resolved already", remedy=remedy)
    raise AlertNotOpen(f"there is no alert {alert!r}", remedy=remedy)


def _cases(state: HealthState, rule: Rule, now: float) -> Iterator[_Case]:
    for finding in rule.find(state, now):
        known = state.alerts.get(alert_id(rule, finding.target))
        first_seen = known.pending_at if known is not None else now
        yield _Case(rule, finding, known, max(finding.since or first_seen, state.started_at))


def _steps(case: _Case, now: float) -> Iterator[Fact]:
    value = case.finding.value
    if value is None:
        return
    if not case.rule.holds(value, already=case.open is not None):
        if case.open is not None:
            yield _resolved(case.alert, case.open, case.finding.text, case.finding.evidence, now)
        return
    if case.open is None:
        yield AlertPending(
            alert=case.alert,
            rule=case.rule.name,
            target=case.finding.target,
            severity=case.rule.severity,
            summary=case.rule.summary(case.finding),
            evidence=dict(case.finding.evidence),
        )
    if (case.open is None or case.open.phase == "pending") and now >= case.due - _SOON_S:
        yield AlertRaised(
            alert=case.alert,
            rule=case.rule.name,
            target=case.finding.target,
            severity=case.rule.severity,
            summary=case.rule.summary(case.finding),
            held_s=round(max(0.0, now - case.since), 3),
            evidence=dict(case.finding.evidence),
        )


def _resolved(name: str, alert: Alert, text: str, evidence: Mapping[str, float], now: float) -> AlertResolved:
    reason = text if alert.raised_at else f"before it was raised: {text}"
    open_s = max(0.0, now - alert.pending_at)
    return AlertResolved(alert=name, reason=reason, open_s=round(open_s, 3), evidence=dict(evidence))
