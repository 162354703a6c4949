"""What the journal says of the node's own earlier lives."""

from mesh.events.envelope import Event
from mesh.events.live_state import LiveStruct
from mesh.events.vocabulary.journal import JournalSealed
from mesh.events.vocabulary.node import NodeStarted, NodeStopped


class NodeHistory(LiveStruct):
    """A fold: how often the node ``peer_id`` has started, and whether its last life ended on purpose."""

    peer_id: str
    epoch: int = 0
    clean: bool = True

    def apply(self, event: Event) -> None:
        """Fold one event of the journal."""
        if event.origin != self.peer_id:
            return
        if isinstance(event.fact, NodeStarted):
            self.epoch = event.fact.epoch
        if not isinstance(event.fact, JournalSealed):  # the last seal follows the last word
            self.clean = isinstance(event.fact, NodeStopped)
