"""``health_samples``: one row for each time that a node or a peer was looked at."""

from typing import Annotated

from mesh.events.envelope import Event
from mesh.events.vocabulary.health import NodeSampled, PeerSampled
from mesh.projections.folds.common import measured, own_subject
from mesh.projections.projection import Key, Projection, Row


class HealthSampleRow(Row, frozen=True, kw_only=True, gc=False):
    """One sample. Columns of the other kind are NULL, and so is what could not be measured."""

    position: Annotated[int, "Position of the event that records it"]
    node: Annotated[str, "PeerId of the node that measured"]
    target: Annotated[str, "PeerId that was measured; equal to node for the node itself"]
    kind: Annotated[str, "node or peer"]
    sampled_at: Annotated[str, "When"]
    latency_ms: Annotated[float | None, "peer: round trip of the heartbeat, milliseconds"] = None
    jitter_ms: Annotated[float | None, "peer: its variation, milliseconds"] = None
    loss: Annotated[float | None, "peer: share of heartbeats lost, 0 to 1"] = None
    request_latency_ms: Annotated[float | None, "peer: milliseconds that requests to it took"] = None
    requests: Annotated[int | None, "peer: requests sent to it in the interval"] = None
    success_rate: Annotated[float | None, "peer: share of these answered, 0 to 1"] = None
    throughput_bytes_s: Annotated[float | None, "peer: bytes a second to and from it"] = None
    experts_offered: Annotated[int | None, "peer: experts that it offers"] = None
    experts_available: Annotated[int | None, "peer: of these, available"] = None
    cpu_percent: Annotated[float | None, "node: of the machine, 0 to 100"] = None
    memory_percent: Annotated[float | None, "node: of the machine, 0 to 100"] = None
    disk_percent: Annotated[float | None, "node: of the file system that holds its home, 0 to 100"] = None
    open_files_percent: Annotated[float | None, "node: of its limit, 0 to 100"] = None
    loop_lag_ms: Annotated[float | None, "node: how late its event loop runs, milliseconds"] = None
    rss_bytes: Annotated[int | None, "node: resident memory, bytes"] = None
    journal_backlog: Annotated[int | None, "node: events not yet stored"] = None
    requests_in_flight: Annotated[int | None, "node: requests under way"] = None
    queued: Annotated[int | None, "node: requests waiting for its experts"] = None
    last_position: Annotated[int, "Position of the last event in this row"]


def _node_sampled(_row: None, event: Event, fact: NodeSampled) -> HealthSampleRow:
    return HealthSampleRow(
        position=event.position,
        node=event.origin,
        target=own_subject(event),
        kind="node",
        sampled_at=event.time,
        cpu_percent=measured(fact.cpu_percent),
        memory_percent=measured(fact.memory_percent),
        disk_percent=measured(fact.disk_percent),
        open_files_percent=measured(fact.open_files_percent),
        loop_lag_ms=measured(fact.loop_lag_ms),
        rss_bytes=fact.rss_bytes,
        journal_backlog=fact.journal_backlog,
        requests_in_flight=fact.requests_in_flight,
        queued=fact.queued,
        last_position=event.position,
    )


def _peer_sampled(_row: None, event: Event, fact: PeerSampled) -> HealthSampleRow:
    return HealthSampleRow(
        position=event.position,
        node=event.origin,
        target=fact.peer,
        kind="peer",
        sampled_at=event.time,
        latency_ms=measured(fact.latency_ms),
        jitter_ms=measured(fact.jitter_ms),
        loss=measured(fact.loss),
        request_latency_ms=measured(fact.request_latency_ms),
        requests=fact.requests,
        success_rate=measured(fact.success_rate),
        throughput_bytes_s=measured(fact.throughput_bytes_s),
        experts_offered=fact.experts_offered,
        experts_available=fact.experts_available,
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    return (event.position,)


HEALTH_SAMPLES = Projection(
    name="health_samples",
    version=1,
    row=HealthSampleRow,
    key=("position",),
    key_of=_key,
    handlers={NodeSampled: _node_sampled, PeerSampled: _peer_sampled},
    indexes=(("target",),),
    append_only=True,
)
