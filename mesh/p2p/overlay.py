"""The port to the peer-to-peer network: what the node needs of an overlay, without saying how it is had.

Adapters: `mesh.p2p.overlay_process` (py-libp2p in a supervised process of its own) and
`mesh.p2p.overlay_memory` (many nodes in one process). Both pass ``tests/contracts/test_overlay.py``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.errors import MeshError


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
class Restarted:
    """The overlay came back: every connection and stream of before is gone (each was reported)."""

    reason: str
    restarts: int
    down_ms: float


OverlayFact = Connected | Identified | Disconnected | Refused | Misbehaved | Restarted


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

    async def start(self, handler: OverlayHandler, *, protocols: Sequence[str], topics: Sequence[str]) -> None:
        """Listen and serve. Raises ListenError when an address is taken or unusable."""
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

    async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream:
        """Open a stream to a connected peer. Raises StreamRefused or OverlayDown."""
        ...

    async def check(self) -> None:
        """Return once the overlay has shown that it is alive, whatever its peers are. Raises OverlayDown."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip a small message, best effort. Raises OverlayDown."""
        ...
