"""``nodes``: each node whose journal this is, its starts and its stops."""

from typing import Annotated

from msgspec.structs import replace

from mesh.events.envelope import Event
from mesh.events.vocabulary.node import NodeRecovered, NodeStarted, NodeStopped, ProcessRestarted
from mesh.projections.projection import Key, Projection, Row


class NodeRow(Row, frozen=True, kw_only=True, gc=False):
    """A node as its own journal tells it."""

    node: Annotated[str, "PeerId of the node"]
    name: Annotated[str, "What people call it"] = ""
    release: Annotated[str, "Version of the software at the last start"] = ""
    state: Annotated[str, "running or stopped; a crashed node is running until its next start"] = "running"
    epoch: Annotated[int, "Number of the last start: how often it has started"] = 0
    crashes: Annotated[int, "Starts that did not follow a clean stop"] = 0
    started_at: Annotated[str | None, "Last start"] = None
    stopped_at: Annotated[str | None, "Last clean stop"] = None
    stop_reason: Annotated[str | None, "Why it last stopped"] = None
    resumed_from: Annotated[int, "Position of the journal that the last start found"] = 0
    interrupted_requests: Annotated[int, "Requests that crashes cut off, over all starts"] = 0
    process_restarts: Annotated[int, "Restarts of the node's child processes, over all starts"] = 0
    last_restart: Annotated[str | None, "The last of those: process and reason"] = None
    last_position: Annotated[int, "Position of the last event in this row"]


def _row(row: NodeRow | None, event: Event) -> NodeRow:
    return row or NodeRow(node=event.origin, last_position=event.position)


def _started(row: NodeRow | None, event: Event, fact: NodeStarted) -> NodeRow:
    row = _row(row, event)
    return replace(
        row,
        name=fact.name,
        release=fact.release,
        state="running",
        epoch=fact.epoch,
        crashes=row.crashes + (not fact.clean),
        started_at=event.time,
        resumed_from=fact.resumed_from,
        last_position=event.position,
    )


def _stopped(row: NodeRow | None, event: Event, fact: NodeStopped) -> NodeRow:
    return replace(
        _row(row, event),
        state="stopped",
        stopped_at=event.time,
        stop_reason=fact.reason,
        last_position=event.position,
    )


def _recovered(row: NodeRow | None, event: Event, fact: NodeRecovered) -> NodeRow:
    row = _row(row, event)
    interrupted = row.interrupted_requests + fact.interrupted_requests
    return replace(row, interrupted_requests=interrupted, last_position=event.position)


def _process_restarted(row: NodeRow | None, event: Event, fact: ProcessRestarted) -> NodeRow:
    row = _row(row, event)
    return replace(
        row,
        process_restarts=row.process_restarts + 1,
        last_restart=f"{fact.process}: {fact.reason}",
        last_position=event.position,
    )


def _key(event: Event) -> Key | None:
    return (event.origin,)


NODES = Projection(
    name="nodes",
    version=1,
    row=NodeRow,
    key=("node",),
    key_of=_key,
    handlers={
        NodeStarted: _started,
        NodeStopped: _stopped,
        NodeRecovered: _recovered,
        ProcessRestarted: _process_restarted,
    },
)
