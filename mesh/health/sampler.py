"""What is measured, and how measurements become facts. Where it is measured: `mesh.health.host_psutil`.

Units are in the names. -1 stands for what could not be measured, never a guess.
"""

from dataclasses import dataclass
from typing import Protocol

from mesh.events.vocabulary.health import NodeSampled, PeerSampled
from mesh.health.records import PeerHealth
from mesh.health.score import UNKNOWN
from mesh.health.state import HealthState


@dataclass(frozen=True)
class HostSample:
    """The machine and this node's processes at one moment."""

    cpu_percent: float = UNKNOWN
    memory_percent: float = UNKNOWN
    disk_percent: float = UNKNOWN
    open_files_percent: float = UNKNOWN
    rss_bytes: int = -1


class Host(Protocol):
    """Reads the machine's figures."""

    async def read(self) -> HostSample:
        """The figures now; the processor's are since the last call."""
        ...


@dataclass(frozen=True)
class NodeLoad:
    """How busy the node is with requests of its own and of others."""

    requests_in_flight: int = -1
    queued: int = -1


@dataclass(frozen=True)
class PeerLinkSample:
    """The connection to one peer: heartbeat round trip, its jitter, heartbeats lost (0..1), bytes since last asked."""

    peer: str
    latency_ms: float = UNKNOWN
    jitter_ms: float = UNKNOWN
    loss: float = UNKNOWN
    bytes_in: int = 0
    bytes_out: int = 0


def node_sampled(host: HostSample, load: NodeLoad, loop_lag_ms: float, journal_backlog: int) -> NodeSampled:
    """The node's sample as a fact."""
    return NodeSampled(
        cpu_percent=_rounded(host.cpu_percent),
        memory_percent=_rounded(host.memory_percent),
        disk_percent=_rounded(host.disk_percent),
        open_files_percent=_rounded(host.open_files_percent),
        loop_lag_ms=_rounded(loop_lag_ms),
        rss_bytes=host.rss_bytes,
        journal_backlog=journal_backlog,
        requests_in_flight=load.requests_in_flight,
        queued=load.queued,
    )


def peer_sampled(state: HealthState, link: PeerLinkSample, elapsed_s: float, now: float) -> PeerSampled:
    """A peer's sample as a fact: its link, and what the journal says of its requests and experts since the last."""
    outcomes = state.peers.get(link.peer, PeerHealth()).outcomes
    requests = outcomes.answered + outcomes.failed
    offered, available = state.availability(link.peer, now)
    return PeerSampled(
        peer=link.peer,
        latency_ms=_rounded(link.latency_ms),
        jitter_ms=_rounded(link.jitter_ms),
        loss=_rounded(link.loss, 6),
        request_latency_ms=_ratio(outcomes.latency_ms, outcomes.answered),
        requests=requests,
        success_rate=_ratio(outcomes.answered, requests, 6),
        throughput_bytes_s=_ratio(link.bytes_in + link.bytes_out, elapsed_s),
        experts_offered=offered,
        experts_available=available,
    )


def _ratio(part: float, whole: float, digits: int = 3) -> float:
    return round(part / whole, digits) if whole > 0 else UNKNOWN


def _rounded(value: float, digits: int = 3) -> float:
    return round(value, digits) if value >= 0 else UNKNOWN
