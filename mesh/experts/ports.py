"""What the life of a request needs of others: experts here, experts elsewhere, and the overlay below them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from mesh.events.vocabulary.experts import ExpertOffered
from mesh.experts.calls import Answer, Call, Emit
from mesh.p2p.calls import InboundCall, OnChunk, Reply
from mesh.p2p.overlay import Provider


class LocalAsk(Protocol):
    """The experts of this node (`mesh.experts.host.LocalExperts`)."""

    async def ask(self, call: Call, emit: Emit, *, caller: str) -> Answer:
        """Let an expert answer ``caller`` (a PeerId). Raises AttemptFailed.

        To a call that is not ``held`` the answer has ``passed``, unless nothing went to ``emit``.
        """
        ...

    def offers(self) -> list[ExpertOffered]:
        """What this node serves, with its load now."""
        ...


class RemoteAsk(Protocol):
    """The experts of other nodes (`mesh.experts.remote.RemoteExperts`)."""

    async def ask(self, peer: str, call: Call, emit: Emit | None) -> Answer:
        """Let an expert of ``peer`` answer; without ``emit`` it need not stream. Raises AttemptFailed.

        To a call that is not ``held`` the answer has ``passed``, unless nothing went to ``emit``.
        """
        ...


class Calls(Protocol):
    """Calls between peers (`mesh.p2p.peers.Peers`)."""

    async def call(
        self,
        peer: str,
        method: str,
        header: Mapping[str, JsonValue],
        body: bytes,
        *,
        timeout: float,
        on_chunk: OnChunk | None = None,
    ) -> Reply:
        """Call a peer. Raises CallFailed."""
        ...

    def serve(self, method: str, handler: Callable[[InboundCall], Awaitable[Reply]]) -> None:
        """Answer calls of a method."""
        ...


class Gossip(Calls, Protocol):
    """Calls, and gossip beside them (`mesh.p2p.peers.Peers`)."""

    async def gossip(self, topic: str, data: bytes) -> None:
        """Tell everybody something small, best effort. Raises OverlayDown."""
        ...

    def register(self, topic: str, callback: Callable[[str, bytes], None]) -> None:
        """Call ``callback(signer, data)`` with what arrives on a topic; it may raise PeerMisbehaved."""
        ...


class Introductions(Protocol):
    """Whom peers tell each other of (`mesh.p2p.introductions.Introducer`)."""

    def tell(self, peer: str) -> Mapping[str, tuple[str, ...]]:
        """Other nodes, with their addresses, that ``peer`` may be told of."""
        ...

    def hear(self, by: str, introduced: Mapping[str, tuple[str, ...]]) -> None:
        """``by`` tells of other nodes. A hint, whatever it holds."""
        ...

    def hint(self, peer: str, addresses: Sequence[str], source: str, *, by: str, via: str) -> bool:
        """``by``, who is at ``via``, says where a peer is; returns whether it is dialled for that."""
        ...


class Finder(Protocol):
    """The mesh's DHT (`mesh.p2p.peers.Peers`)."""

    async def provide(self, names: Iterable[str]) -> None:
        """Let others find us by exactly these names from now on. Raises OverlayDown."""
        ...

    async def find_providers(self, name: str, timeout: float) -> tuple[Provider, ...]:
        """Who is said to provide ``name``. Raises OverlayDown."""
        ...
