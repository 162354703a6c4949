"""Facts to fill journals with."""

from mesh.events.vocabulary.network import PeerSuspected
from mesh.events.vocabulary.node import NodeStopped


def stopped(reason: str = "test") -> NodeStopped:
    """The smallest fact."""
    return NodeStopped(reason=reason)


def suspected(number: int) -> PeerSuspected:
    """A fact that can be told from others by its number."""
    return PeerSuspected(peer=f"peer-{number % 7}", phi=float(number), silent_s=1.5)
