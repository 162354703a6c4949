"""Given facts at times, when time comes, then facts: tells health's decisions without a journal or a loop."""

from collections.abc import Sequence

from mesh.clock import rfc3339
from mesh.config import AlertsConfig
from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary.alerts import AlertPending, AlertRaised, AlertResolved
from mesh.events.vocabulary.experts import ExpertOffered
from mesh.events.vocabulary.health import NodeSampled, PeerSampled, StatusChanged
from mesh.events.vocabulary.network import PeerConnected, PeerDisconnected
from mesh.events.vocabulary.node import NodeStarted
from mesh.health.decide import decide
from mesh.health.rules.overrides import configured
from mesh.health.state import HealthState

NODE = "node"
PEER = "peer"
T0 = 1_800_000_000.0


class Story:
    """Times are seconds after T0. Every fact that is given or decided is kept in ``events``."""

    def __init__(self, *, window: int = 20, alerts: dict[str, dict[str, object]] | None = None) -> None:
        self.state = HealthState(node=NODE, window=window)
        self.rules = configured(AlertsConfig.model_validate({"rules": alerts or {}}))
        self.events: list[Event] = []

    def given(self, at: float, *facts: Fact, origin: str = NODE) -> "Story":
        for fact in facts:
            position = len(self.events) + 1
            event = Event(
                position=position,
                prev=b"",
                id=f"event-{position}",
                time=rfc3339(T0 + at),
                origin=origin,
                origin_seq=position,
                subject="",
                correlation="",
                causation="",
                fact=fact,
            )
            self.events.append(event)
            self.state.apply(event)
        return self

    def when(self, at: float) -> list[Fact]:
        """Decide at a time, fold what was decided, and check that deciding again gives nothing."""
        facts = decide(self.state, self.rules, T0 + at)
        self.given(at, *facts)
        assert decide(self.state, self.rules, T0 + at) == []
        return facts

    def alerts_when(self, at: float) -> list[str]:
        """The same, as ``step rule/target`` of alerts alone."""
        return steps(self.when(at))

    def replayed(self) -> HealthState:
        state = HealthState(node=NODE, window=self.state.window)
        for event in self.events:
            state.apply(event)
        return state


def steps(facts: Sequence[Fact]) -> list[str]:
    names = {AlertPending: "pending", AlertRaised: "raised", AlertResolved: "resolved"}
    return [f"{names[type(fact)]} {fact.alert}" for fact in facts if type(fact) in names]


def statuses(facts: Sequence[Fact]) -> list[str]:
    return [f"{fact.target} {fact.previous or '-'}>{fact.status}" for fact in facts if isinstance(fact, StatusChanged)]


def started(epoch: int = 1) -> NodeStarted:
    return NodeStarted(epoch=epoch, name="n", release="0", resumed_from=0, clean=True)


def connected(peer: str = PEER) -> PeerConnected:
    return PeerConnected(
        peer=peer,
        connection="c",
        address="/ip4/127.0.0.1/tcp/1",
        transport="tcp",
        direction="outbound",
        security="noise",
        muxer="yamux",
        setup_ms=1.0,
    )


def disconnected(peer: str = PEER, reason: str = "connection reset") -> PeerDisconnected:
    return PeerDisconnected(peer=peer, connection="c", reason=reason, lasted_s=1.0)


def offered(
    peer: str = PEER,
    expert: str = "solver",
    domains: tuple[str, ...] = ("mathematics",),
    *,
    available: bool = True,
    valid_s: float = 30.0,
) -> ExpertOffered:
    return ExpertOffered(
        peer=peer,
        expert=expert,
        model="",
        domains=domains,
        concurrency=1,
        queue_limit=1,
        in_flight=0,
        queued=0,
        available=available,
        quality=0.5,
        valid_s=valid_s,
    )


def node_sample(**values: float) -> NodeSampled:
    calm = {
        "cpu_percent": 5.0,
        "memory_percent": 30.0,
        "disk_percent": 40.0,
        "open_files_percent": 1.0,
        "loop_lag_ms": 1.0,
        "rss_bytes": 1,
        "journal_backlog": 0,
        "requests_in_flight": 0,
        "queued": 0,
    }
    return NodeSampled(**{**calm, **values})


def peer_sample(peer: str = PEER, **values: float) -> PeerSampled:
    calm = {
        "latency_ms": 1.0,
        "jitter_ms": 0.5,
        "loss": 0.0,
        "request_latency_ms": -1.0,
        "requests": 0,
        "success_rate": -1.0,
        "throughput_bytes_s": 0.0,
        "experts_offered": 0,
        "experts_available": 0,
    }
    return PeerSampled(peer=peer, **{**calm, **values})
