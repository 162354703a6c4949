"""The port to the peer-to-peer network: what the node needs of an overlay, without saying how it is had.

Adapters: `mesh.p2p.overlay_process` (py-libp2p in a supervised process of its own) and
`mesh.p2p.overlay_memory` (many nodes in one process). Both pass ``tests/contracts/test_overlay.py``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.errors import MeshError
from mesh.p2p.access import Access


class DialFailed(MeshError):
    """No address of the peer led to a connection."""


class StreamRefused(MeshError):
    """The peer is not connected, does not speak the protocol, or refused the stream."""


class OverlayDown(MeshError):
    """The overlay is not running (it is being restarted); nothing was sent."""


@dataclass(frozen=True)
class Connected:
    """The peer is connected: secured, multiplexed, and its identity proved.

    However many connections there are, a peer is reported once, and `Disconnected` with the same ``connection`` comes
    when the last is gone (two nodes that dial each other at once have two). A peer that connects again without
    having lost the first in our eyes has restarted: the old connection is reported as gone, with all its streams.
    ``transport`` is ``relay`` where a relay joins the two; ``address`` names it then.
    """

    peer: str
    connection: str
    address: str
    transport: str
    direction: str
    security: str
    muxer: str
    setup_ms: float


@dataclass(frozen=True)
class Identified:
    """The peer's answer to libp2p's identify."""

    peer: str
    agent: str
    protocols: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Disconnected:
    """The peer is not connected any more; all its streams have ended before this is reported."""

    peer: str
    connection: str
    reason: str


@dataclass(frozen=True)
class Refused:
    """A connection or stream was turned away by a rule."""

    peer: str
    address: str
    rule: str
    limit: str
    value: str


@dataclass(frozen=True)
class Misbehaved:
    """A peer broke a protocol below ours and was dropped."""

    peer: str
    address: str
    rule: str
    detail: str


@dataclass(frozen=True)
class PathChanged:
    """The way to a connected peer is another: ``path`` is ``direct``, or ``relayed`` when only a relay joins us now.

    New streams go that way; those that are open stay where they are, and end with their connection.
    """

    peer: str
    connection: str
    path: str
    address: str
    transport: str


@dataclass(frozen=True)
class HolePunched:
    """An attempt to make a relayed connection direct is over, well (``direct``) or not (``error`` says why)."""

    peer: str
    address: str
    attempts: int
    took_ms: float
    direct: bool
    error: str


@dataclass(frozen=True)
class RelayReserved:
    """A relay keeps a place for us: others reach us at ``addresses`` through it.

    It is renewed without another word, until `RelayLost`. The relay ends a circuit after ``circuit_s`` seconds and
    ``circuit_bytes`` bytes (0: it did not say).
    """

    relay: str
    addresses: tuple[str, ...]
    holds_s: float
    circuit_s: float
    circuit_bytes: int


@dataclass(frozen=True)
class RelayLost:
    """Nobody reaches us through this relay any more."""

    relay: str
    reason: str


@dataclass(frozen=True)
class ReachabilityChanged:
    """What peers that dialled us back found: ``public`` (at ``addresses``), ``private``, or ``unknown``.

    ``askable`` is how many connected peers could be asked.
    """

    reachability: str
    addresses: tuple[str, ...]
    askable: int


@dataclass(frozen=True)
class PortMapped:
    """The router at the IP address ``gateway`` passes on what comes to ``address`` (UPnP)."""

    address: str
    gateway: str


@dataclass(frozen=True)
class Restarted:
    """The overlay came back: every connection and stream of before is gone (each was reported)."""

    reason: str
    restarts: int
    down_ms: float


OverlayFact = (
    Connected
    | Identified
    | Disconnected
    | PathChanged
    | HolePunched
    | RelayReserved
    | RelayLost
    | ReachabilityChanged
    | PortMapped
    | Refused
    | Misbehaved
    | Restarted
)


@dataclass(frozen=True)
class Stream:
    """One open stream to a peer, as asyncio sees it. Closing the writer closes the stream.

    ``write_eof`` ends our direction alone. When the peer closes, the reader is at its end; when the connection or the
    overlay is lost, the reader is at its end or raises ConnectionError, and so does the writer.
    """

    peer: str
    protocol: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(frozen=True)
class Provider:
    """A peer that is said to provide something: a hint. ``by`` said so, over a connection with ``via``.

    ``addresses`` are those that ``by`` may know of; none where the peer is only named.
    """

    peer: str
    addresses: tuple[str, ...]
    by: str
    via: str


class OverlayHandler(Protocol):
    """Who hears from the overlay. Called on the event loop, in order; must return at once."""

    def on_fact(self, fact: OverlayFact) -> None:
        """Something happened to a peer, a connection or the overlay."""
        ...

    def on_stream(self, stream: Stream) -> None:
        """A peer opened a stream of a protocol that we serve; its `Connected` was reported before."""
        ...

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None:
        """A message, signed by ``peer`` (not necessarily who carried it), arrived on a topic. Never our own."""
        ...


class Overlay(Protocol):
    """A running member of the peer-to-peer network."""

    async def start(
        self, handler: OverlayHandler, *, protocols: Sequence[str], topics: Sequence[str], dht: str = ""
    ) -> None:
        """Listen and serve. Raises ListenError when an address is taken or unusable.

        ``dht`` is the protocol of the DHT to be part of; empty: of none.
        """
        ...

    async def stop(self) -> None:
        """Leave: connections and streams are gone when this returns."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs that others can dial, each ending in ``/p2p/<our PeerId>``."""
        ...

    async def dial(self, peer: str, addresses: Sequence[str], timeout: float) -> None:
        """Connect (``Connected`` is reported before this returns), or raise DialFailed. Already connected: no-op."""
        ...

    async def disconnect(self, peer: str, reason: str) -> None:
        """Close every connection to the peer; no-op when there is none."""
        ...

    async def restrict(self, access: Access) -> None:
        """From now on connect only to whom ``access`` admits, whoever dials; before `start`, from its beginning on.

        When this returns, connections to others are closed (and reported as such). Who comes from a blocked network
        is refused before a byte is read, who is blocked by PeerId as soon as that is proved: ``Refused`` is reported.
        """
        ...

    async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream:
        """Open a stream to a connected peer. Raises StreamRefused or OverlayDown."""
        ...

    async def check(self) -> frozenset[str]:
        """Return once the overlay has shown that it is alive, whatever its peers are. Raises OverlayDown.

        It takes as long as a heartbeat and its answer take the overlay. Returns the peers that have said something that
        the overlay has not got round to reading.
        """
        ...

    async def provide(self, names: Sequence[str]) -> None:
        """From now on let others find us by exactly these names, in the DHT; also after a restart. Raises OverlayDown.

        Others learn of it within seconds, and may believe in it for half an hour after it has ended.
        """
        ...

    async def find_providers(self, name: str, timeout: float) -> tuple[Provider, ...]:
        """Who is said to provide ``name``, besides us: hints, none where there is no DHT. Raises OverlayDown."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip a small message, best effort. Raises OverlayDown."""
        ...
