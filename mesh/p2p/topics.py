"""Gossip of one mesh: small messages to everyone, by topic, best effort."""

from collections.abc import Callable

from mesh.errors import PeerMisbehaved

MAX_GOSSIP_BYTES = 32 * 1024

OnGossip = Callable[[str, bytes], None]


class Topics:
    """Who listens to what. On the wire the topic ``offers`` of the mesh ``lab`` is ``/mesh/lab/offers/1.0.0``."""

    def __init__(self, mesh: str) -> None:
        self._mesh = mesh
        self._callbacks: dict[str, OnGossip] = {}

    def register(self, topic: str, callback: OnGossip) -> None:
        """Let ``callback(signer, data)`` hear what arrives on a topic."""
        self._callbacks[self.on_wire(topic)] = callback

    def on_wire(self, topic: str) -> str:
        """The topic's name in gossipsub."""
        return f"/mesh/{self._mesh}/{topic}/1.0.0"

    def registered(self) -> list[str]:
        """All topics, as on the wire."""
        return list(self._callbacks)

    def deliver(self, topic: str, peer: str, data: bytes) -> None:
        """Hand over what ``peer`` signed. Raises PeerMisbehaved, as the callback does for what breaks its rules."""
        callback = self._callbacks.get(topic)
        if callback is None:
            return
        if len(data) > MAX_GOSSIP_BYTES:
            raise PeerMisbehaved("gossip_too_large", f"{len(data)} bytes; the limit is {MAX_GOSSIP_BYTES}")
        callback(peer, data)
