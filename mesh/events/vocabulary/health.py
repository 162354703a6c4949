"""Facts about health. Their envelope's subject is the PeerId that was looked at, this node's own included."""

from typing import ClassVar

from mesh.events.envelope import Fact


class NodeSampled(Fact, frozen=True, kw_only=True):
    """The node's own resources at one moment. Percentages are 0..100 of the machine or of a limit."""

    type: ClassVar[str] = "health.node_sampled"
    cpu_percent: float
    memory_percent: float
    disk_percent: float
    open_files_percent: float
    loop_lag_ms: float
    rss_bytes: int
    journal_backlog: int
    requests_in_flight: int
    queued: int


class PeerSampled(Fact, frozen=True, kw_only=True):
    """One peer over the last interval, as seen from here.

    ``loss`` and ``success_rate`` are 0..1; latency and jitter are of the heartbeat, request latency is of the
    expert requests sent to it. Where nothing was measured the value is -1, never a guess.
    """

    type: ClassVar[str] = "health.peer_sampled"
    peer: str
    latency_ms: float
    jitter_ms: float
    loss: float
    request_latency_ms: float
    requests: int
    success_rate: float
    throughput_bytes_s: float
    experts_offered: int
    experts_available: int


class StatusChanged(Fact, frozen=True, kw_only=True):
    """The documented score crossed a threshold and stayed there. ``factors`` are the parts of the score."""

    type: ClassVar[str] = "health.status_changed"
    target: str
    target_kind: str
    previous: str
    status: str
    score: float
    factors: dict[str, float]


FACTS = (NodeSampled, PeerSampled, StatusChanged)
