"""The port through which people hear of alerts. Programs follow ``mesh.event.*.alert.>`` instead.

Adapter: `mesh.health.notifier_log`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from mesh.events.envelope import Event
from mesh.events.vocabulary.alerts import AlertAcknowledged, AlertRaised, AlertResolved
from mesh.health.state import HealthState

MAX_WAITING = 1000
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Notice:
    """One step of an alert's life that somebody should hear of."""

    alert: str
    step: Literal["raised", "acknowledged", "resolved"]
    severity: str
    text: str
    time: str


class Notifier(Protocol):
    """Takes notices somewhere."""

    async def send(self, notice: Notice) -> None:
        """Deliver one notice; raises what kept it from being delivered."""
        ...


class Announcer:
    """Hands every notice to every notifier, in order and beside the work; a failing one is logged, not fatal."""

    def __init__(self, state: HealthState, notifiers: Sequence[Notifier]) -> None:
        self._state = state
        self._notifiers = tuple(notifiers)
        self._raised: dict[str, str] = {}
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(MAX_WAITING)

    def resume(self) -> None:
        """Know the alerts that are open from before, so that their end is told too."""
        self._raised = {name: alert.severity for name, alert in self._state.open_alerts().items()}

    def hear(self, event: Event) -> None:
        """A listener of the journal. Alerts that end before they are raised are nobody's concern."""
        notice = self._notice(event)
        if notice is None or event.origin != self._state.node:
            return
        if self._waiting.full():
            log.error("notice dropped: too many are waiting", alert=notice.alert, step=notice.step)
            return
        self._waiting.put_nowait(notice)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            notice = await self._waiting.get()
            for notifier in self._notifiers:
                try:
                    await notifier.send(notice)
                except Exception:
                    log.exception("notice not delivered", alert=notice.alert, sender=type(notifier).__name__)

    def _notice(self, event: Event) -> Notice | None:
        fact = event.fact
        if isinstance(fact, AlertRaised):
            self._raised[fact.alert] = fact.severity
            return Notice(fact.alert, "raised", fact.severity, fact.summary, event.time)
        if isinstance(fact, AlertAcknowledged) and fact.alert in self._raised:
            text = f"by {fact.actor}: {fact.note}" if fact.note else f"by {fact.actor}"
            return Notice(fact.alert, "acknowledged", self._raised[fact.alert], text, event.time)
        if isinstance(fact, AlertResolved) and fact.alert in self._raised:
            return Notice(fact.alert, "resolved", self._raised.pop(fact.alert), fact.reason, event.time)
        return None
