"""Facts about the node itself. Their envelope's subject is the node's PeerId."""

from typing import ClassVar

from mesh.events.envelope import Fact


class NodeStarted(Fact, frozen=True, kw_only=True):
    """The node opened its journal. ``epoch`` counts its starts; ``resumed_from`` is the position found."""

    type: ClassVar[str] = "node.started"
    epoch: int
    name: str
    release: str
    resumed_from: int
    clean: bool


class NodeStopped(Fact, frozen=True, kw_only=True):
    """The node is shutting down on purpose; the next start is clean when this is the last fact of an epoch."""

    type: ClassVar[str] = "node.stopped"
    reason: str


class NodeRecovered(Fact, frozen=True, kw_only=True):
    """After a crash: how many requests were in flight; each gets its own ``request.interrupted``."""

    type: ClassVar[str] = "node.recovered"
    interrupted_requests: int
    journal_position: int


class ProcessRestarted(Fact, frozen=True, kw_only=True):
    """A supervised child (``broker``, ``overlay`` or ``projector``) ended and was started again."""

    type: ClassVar[str] = "node.process_restarted"
    process: str
    reason: str
    restarts: int
    down_ms: float


FACTS = (NodeStarted, NodeStopped, NodeRecovered, ProcessRestarted)
