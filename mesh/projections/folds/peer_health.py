"""``peer_health``: how each peer, and the node itself, is now, and where its figures are heading.

Trends come from `mesh.health.trend`: where that gives other slopes, the version here rises.
"""

from typing import Annotated

from msgspec import field
from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.health import NodeSampled, PeerSampled, StatusChanged
from mesh.health.trend import slope_of
from mesh.projections.folds.common import measured, own_subject
from mesh.projections.projection import Key, Projection, Row

# Samples that a trend looks back over.
WINDOW = 12
# Seconds since the epoch, then one value for each metric of the kind, in the order of _TRENDS.
Sample = tuple[float | None, ...]
_TRENDS = {
    "peer": ("latency_ms", "loss", "request_latency_ms", "success_rate"),
    "node": ("cpu_percent", "memory_percent", "disk_percent", "loop_lag_ms"),
}


class PeerHealthRow(Row, frozen=True, kw_only=True, gc=False):
    """The last status and the last sample of one target. Trends are Theil-Sen slopes over the last 12 samples."""

    node: Annotated[str, "PeerId of the node that looks"]
    target: Annotated[str, "PeerId that it looks at; equal to node for the node itself"]
    kind: Annotated[str, "node or peer"] = "peer"
    status: Annotated[str, "excellent, good, fair, poor, critical; unknown before the first verdict"] = "unknown"
    previous: Annotated[str | None, "The status before"] = None
    score: Annotated[float | None, "The score that the status came from, 0 to 1"] = None
    factors: Annotated[dict[str, float], "JSON object: the parts of the score"] = field(default_factory=dict)
    since_at: Annotated[str | None, "In this status since"] = None
    status_changes: Annotated[int, "Changes of status so far"] = 0
    sampled_at: Annotated[str | None, "Last sample"] = None
    samples: Annotated[int, "Samples so far"] = 0
    latency_ms: Annotated[float | None, "peer: round trip of the heartbeat, milliseconds"] = None
    jitter_ms: Annotated[float | None, "peer: its variation, milliseconds"] = None
    loss: Annotated[float | None, "peer: share of heartbeats lost, 0 to 1"] = None
    request_latency_ms: Annotated[float | None, "peer: milliseconds that requests to it took"] = None
    success_rate: Annotated[float | None, "peer: share of requests answered, 0 to 1"] = None
    throughput_bytes_s: Annotated[float | None, "peer: bytes a second to and from it"] = None
    experts_offered: Annotated[int | None, "peer: experts that it offers"] = None
    experts_available: Annotated[int | None, "peer: of these, available"] = None
    cpu_percent: Annotated[float | None, "node: of the machine, 0 to 100"] = None
    memory_percent: Annotated[float | None, "node: of the machine, 0 to 100"] = None
    disk_percent: Annotated[float | None, "node: of the file system that holds its home, 0 to 100"] = None
    open_files_percent: Annotated[float | None, "node: of its limit, 0 to 100"] = None
    loop_lag_ms: Annotated[float | None, "node: how late its event loop runs, milliseconds"] = None
    latency_ms_per_min: Annotated[float | None, "Trend of latency_ms, a minute"] = None
    loss_per_min: Annotated[float | None, "Trend of loss, a minute"] = None
    request_latency_ms_per_min: Annotated[float | None, "Trend of request_latency_ms, a minute"] = None
    success_rate_per_min: Annotated[float | None, "Trend of success_rate, a minute"] = None
    cpu_percent_per_min: Annotated[float | None, "Trend of cpu_percent, a minute"] = None
    memory_percent_per_min: Annotated[float | None, "Trend of memory_percent, a minute"] = None
    disk_percent_per_min: Annotated[float | None, "Trend of disk_percent, a minute"] = None
    loop_lag_ms_per_min: Annotated[float | None, "Trend of loop_lag_ms, a minute"] = None
    recent: Annotated[
        tuple[Sample, ...], "JSON list of the samples that trends are made of: [Unix seconds, then the metrics]"
    ] = ()
    last_position: Annotated[int, "Position of the last event in this row"]


def _row(row: PeerHealthRow | None, event: Event, target: str, kind: str) -> PeerHealthRow:
    return row or PeerHealthRow(node=event.origin, target=target, kind=kind, last_position=event.position)


def _peer_sampled(row: PeerHealthRow | None, event: Event, fact: PeerSampled) -> PeerHealthRow:
    row = _row(row, event, fact.peer, "peer")
    latency, loss = measured(fact.latency_ms), measured(fact.loss)
    request_latency, success = measured(fact.request_latency_ms), measured(fact.success_rate)
    return replace(
        row,
        sampled_at=event.time,
        samples=row.samples + 1,
        latency_ms=latency,
        jitter_ms=measured(fact.jitter_ms),
        loss=loss,
        request_latency_ms=request_latency,
        success_rate=success,
        throughput_bytes_s=measured(fact.throughput_bytes_s),
        experts_offered=fact.experts_offered,
        experts_available=fact.experts_available,
        recent=(*row.recent[1 - WINDOW :], (event.at, latency, loss, request_latency, success)),
        last_position=event.position,
    )


def _node_sampled(row: PeerHealthRow | None, event: Event, fact: NodeSampled) -> PeerHealthRow:
    row = _row(row, event, own_subject(event), "node")
    cpu, memory = measured(fact.cpu_percent), measured(fact.memory_percent)
    disk, lag = measured(fact.disk_percent), measured(fact.loop_lag_ms)
    return replace(
        row,
        sampled_at=event.time,
        samples=row.samples + 1,
        cpu_percent=cpu,
        memory_percent=memory,
        disk_percent=disk,
        open_files_percent=measured(fact.open_files_percent),
        loop_lag_ms=lag,
        recent=(*row.recent[1 - WINDOW :], (event.at, cpu, memory, disk, lag)),
        last_position=event.position,
    )


def _status_changed(row: PeerHealthRow | None, event: Event, fact: StatusChanged) -> PeerHealthRow:
    row = _row(row, event, fact.target, fact.target_kind)
    return replace(
        row,
        status=fact.status,
        previous=fact.previous,
        score=fact.score,
        factors=fact.factors,
        since_at=event.time,
        status_changes=row.status_changes + 1,
        last_position=event.position,
    )


def _with_trends(row: PeerHealthRow) -> PeerHealthRow:
    metrics = _TRENDS.get(row.kind, ())  # another node may speak of kinds that are unknown here
    return replace(
        row, **{f"{metric}_per_min": _per_min(row.recent, index) for index, metric in enumerate(metrics, start=1)}
    )


def _per_min(recent: tuple[Sample, ...], index: int) -> float | None:
    found = slope_of(
        [(at, value) for at, value in ((sample[0], sample[index]) for sample in recent) if at and value is not None]
    )
    return None if found is None else found * 60


def _key(event: Event) -> Key | None:
    fact = event.fact
    if isinstance(fact, PeerSampled):
        return (fact.peer, event.origin)
    return (fact.target if isinstance(fact, StatusChanged) else own_subject(event), event.origin)


PEER_HEALTH = Projection(
    name="peer_health",
    version=1,
    row=PeerHealthRow,
    key=("target", "node"),
    key_of=_key,
    handlers={PeerSampled: _peer_sampled, NodeSampled: _node_sampled, StatusChanged: _status_changed},
    finish=_with_trends,
)
