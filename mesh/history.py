"""What the journal says of the node's own earlier lives."""

from mesh.events.envelope import Event
from mesh.events.vocabulary.journal import JournalSealed
from mesh.events.vocabulary.node import NodeStarted, NodeStopped


class NodeHistory:
    """A fold: how often this node has started, and whether its last life ended on purpose."""

    def __init__(self, peer_id: str) -> None:
        self._peer_id = peer_id
        self.epoch = 0
        self.clean = True

    def apply(self, event: Event) -> None:
        """Fold one event of the journal."""
        if event.origin != self._peer_id:
            return
        if isinstance(event.fact, NodeStarted):
            self.epoch = event.fact.epoch
        if not isinstance(event.fact, JournalSealed):  # the last seal follows the last word
            self.clean = isinstance(event.fact, NodeStopped)
