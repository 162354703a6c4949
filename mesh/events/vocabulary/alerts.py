"""The life of an alert: pending → raised → acknowledged → resolved. Their envelope's subject is the alert's id.

``alert`` is ``rule/target``: one condition of one thing has one alert, however often it comes back.
"""

from typing import ClassVar

from mesh.events.envelope import Fact


class AlertPending(Fact, frozen=True, kw_only=True):
    """The rule's condition holds, but not yet for as long as the rule demands."""

    type: ClassVar[str] = "alert.pending"
    alert: str
    rule: str
    target: str
    severity: str
    summary: str
    evidence: dict[str, float]


class AlertRaised(Fact, frozen=True, kw_only=True):
    """The condition held for ``held_s``. ``severity`` is info, warning, error or critical."""

    type: ClassVar[str] = "alert.raised"
    alert: str
    rule: str
    target: str
    severity: str
    summary: str
    held_s: float
    evidence: dict[str, float]


class AlertAcknowledged(Fact, frozen=True, kw_only=True):
    """Somebody has seen it."""

    type: ClassVar[str] = "alert.acknowledged"
    alert: str
    actor: str
    note: str


class AlertResolved(Fact, frozen=True, kw_only=True):
    """The condition no longer holds; ``open_s`` is the time since it was pending."""

    type: ClassVar[str] = "alert.resolved"
    alert: str
    reason: str
    open_s: float
    evidence: dict[str, float]


FACTS = (AlertPending, AlertRaised, AlertAcknowledged, AlertResolved)
