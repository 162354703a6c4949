"""Watches the node and its peers: samples on a beat, and decides after each sample and after each fact that matters."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mesh.clock import Clock, SystemClock
from mesh.config import AlertsConfig, HealthConfig
from mesh.events.envelope import Event, Fact
from mesh.events.journal import Emission, Journal
from mesh.events.vocabulary import alerts, experts, health, network
from mesh.health.alerting import acknowledge
from mesh.health.decide import decide, next_due
from mesh.health.host_psutil import PsutilHost
from mesh.health.loop_lag import LoopLag
from mesh.health.notifier import Announcer, Notifier
from mesh.health.notifier_log import LogNotifier
from mesh.health.rules.overrides import configured
from mesh.health.sampler import Host, NodeLoad, PeerLinkSample, node_sampled, peer_sampled
from mesh.health.state import HealthState

# Facts that change what is decided; they are decided on within COALESCE_S, together.
PROMPT: frozenset[type[Fact]] = frozenset(
    {
        network.PeerConnected,
        network.PeerDisconnected,
        network.PeerConfirmedDown,
        network.PeerRejoined,
        *experts.FACTS,
    }
)
COALESCE_S = 0.2
# In a mesh so large that deciding takes long, facts wait longer for each other, so that it takes a tenth of the
# loop's time at most; but never longer than this.
COALESCE_MAX_S = 1.0
# The first sample comes this soon, so that processor and loop have something to be measured over.
FIRST_SAMPLE_S = 1.0


class HealthMonitor:
    """Emits samples, changes of status and alerts into the journal that ``state`` is a fold of.

    ``links`` gives the connections there are, ``load`` how busy the node is. Raises ConfigError for alert rules
    that do not exist. `task` ends only by `stop`, or by the failure that it then holds: its owner watches it.
    """

    def __init__(
        self,
        journal: Journal,
        state: HealthState,
        config: HealthConfig,
        alerts: AlertsConfig,
        *,
        home: Path,
        links: Callable[[], Iterable[PeerLinkSample]],
        load: Callable[[], NodeLoad] = NodeLoad,
        clock: Clock | None = None,
        host: Host | None = None,
        notifiers: Sequence[Notifier] | None = None,
    ) -> None:
        self.rules = configured(alerts)
        self._journal = journal
        self._state = state
        self._interval_s = config.interval_s
        self._links = links
        self._load = load
        self._clock = clock or SystemClock()
        self._host = host or PsutilHost(home)
        self._lag = LoopLag(self._clock)
        self._announcer = Announcer(state, (LogNotifier(),) if notifiers is None else notifiers)
        self._changed = asyncio.Event()
        self._coalesce_s = COALESCE_S
        self._sampled_at = 0.0
        self._listening = False
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch. The journal is open by now, and ``node.started`` emitted."""
        if not self._listening:
            self._journal.listen(self._hear)
            self._listening = True
        self._announcer.resume()
        self._sampled_at = self._clock.monotonic()
        self._changed.set()
        self.task = asyncio.create_task(self._run(), name="health monitor")

    async def stop(self) -> None:
        """Stop watching; nothing is emitted after this returns. Raises what had ended the monitor before."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    def acknowledge(self, alert: str, actor: str, note: str = "") -> Emission:
        """Record that ``actor`` has seen an alert. Raises AlertNotOpen."""
        return self._emit(acknowledge(self._state, alert, actor, note))

    def _hear(self, event: Event) -> None:
        if self.task is not None:
            self._announcer.hear(event)
            if type(event.fact) in PROMPT:
                self._changed.set()

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lag.run(), name="loop lag")
                tasks.create_task(self._announcer.run(), name="alert notices")
                tasks.create_task(self._watch(), name="health watch")
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _watch(self) -> None:
        next_sample = self._clock.monotonic() + min(FIRST_SAMPLE_S, self._interval_s)
        while True:
            due_in = next_due(self._state, self.rules, self._clock.now()) - self._clock.now()
            await self._wait(min(next_sample - self._clock.monotonic(), due_in))
            if self._clock.monotonic() >= next_sample:
                await self._sample()
                next_sample = max(next_sample, self._clock.monotonic() - self._interval_s) + self._interval_s
            self._changed.clear()
            self._decide()

    def _decide(self) -> None:
        began = self._clock.monotonic()
        for fact in decide(self._state, self.rules, self._clock.now()):
            self._emit(fact)
        took_s = self._clock.monotonic() - began
        self._coalesce_s = min(max(COALESCE_S, 10 * took_s), COALESCE_MAX_S)

    async def _wait(self, seconds: float) -> None:
        """Until a fact that matters was heard (and the ones that come with it), or ``seconds`` have passed."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return
        await self._clock.sleep(self._coalesce_s)

    async def _sample(self) -> None:
        host = await self._host.read()
        now, moment = self._clock.now(), self._clock.monotonic()
        self._emit(node_sampled(host, self._load(), self._lag.take_ms(), self._journal.backlog))
        for link in self._links():
            self._emit(peer_sampled(self._state, link, moment - self._sampled_at, now))
        self._sampled_at = moment

    def _emit(self, fact: Fact) -> Emission:
        subject, episode = _about(fact, self._state)
        return self._journal.emit(fact, subject=subject, correlation=episode, causation=episode)


def _about(fact: Fact, state: HealthState) -> tuple[str, str]:
    """The entity that a fact is about, and for an alert the event that began its episode."""
    match fact:
        case health.PeerSampled():
            return fact.peer, ""
        case health.StatusChanged():
            return fact.target, ""
        case alerts.AlertPending() | alerts.AlertRaised() | alerts.AlertAcknowledged() | alerts.AlertResolved():
            known = state.alerts.get(fact.alert)
            return fact.alert, known.episode if known is not None else ""
        case _:
            return state.node, ""
