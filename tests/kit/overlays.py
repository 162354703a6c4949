"""Overlays under test: a handler that remembers, and worlds of three nodes over each adapter."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from mesh.config import OverlayConfig
from mesh.identity import Identity
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay import Connected, Disconnected, Overlay, OverlayFact, Restarted, Stream
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.overlay_process import ProcessOverlay

PROTOCOL = "/test/echo/1"
TOPIC = "test"
DHT = "/test/kad/1.0.0"
WAIT_S = 60.0
T = TypeVar("T")


class Recorder:
    """Remembers what an overlay reports, and lets a test wait for it."""

    def __init__(self) -> None:
        self.facts: list[OverlayFact] = []
        self.streams: list[Stream] = []
        self.gossip: list[tuple[str, str, bytes]] = []
        self._something = asyncio.Event()

    def on_fact(self, fact: OverlayFact) -> None:
        self.facts.append(fact)
        self._something.set()

    def on_stream(self, stream: Stream) -> None:
        self.streams.append(stream)
        self._something.set()

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None:
        self.gossip.append((topic, peer, data))
        self._something.set()

    def of(self, kind: type[T]) -> list[T]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def clear(self) -> None:
        self.facts.clear()
        self.streams.clear()
        self.gossip.clear()

    async def until(self, found: Callable[[], T], timeout_s: float = WAIT_S) -> T:
        """The first truthy ``found()``, asked again whenever something was reported."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (result := found()):
                    self._something.clear()
                    await self._something.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s; reported: {self.facts}") from None
        return result


@dataclass
class Node:
    peer: str
    overlay: Overlay
    heard: Recorder

    def is_connected(self, other: "Node") -> bool:
        state = [f for f in self.heard.facts if isinstance(f, Connected | Disconnected) and f.peer == other.peer]
        return bool(state) and isinstance(state[-1], Connected)

    async def dial(self, other: "Node") -> None:
        await self.overlay.dial(other.peer, other.overlay.addresses, 30)
        await other.heard.until(lambda: other.is_connected(self))

    async def stream_to(self, other: "Node") -> tuple[Stream, Stream]:
        """A new stream, as both ends see it."""
        before = len(other.heard.streams)
        near = await self.overlay.open_stream(other.peer, PROTOCOL, 30)
        await other.heard.until(lambda: len(other.heard.streams) > before)
        return near, other.heard.streams[before]


class World(Protocol):
    """Three nodes that know nothing of each other yet."""

    nodes: list[Node]

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def crash(self, node: Node) -> None:
        """The node's overlay dies by SIGKILL, and is back when this returns."""
        ...


async def reset(world: World) -> None:
    """Let no test see what another has left."""
    for node in world.nodes:
        for other in world.nodes:
            if node is not other:
                await node.overlay.disconnect(other.peer, "reset")
    for node in world.nodes:
        await node.heard.until(lambda node=node: not any(node.is_connected(other) for other in world.nodes))
        node.heard.clear()


class MemoryWorld:
    """Without a ``dht`` nobody dials but who is told to."""

    def __init__(self, count: int = 3, dht: str = DHT) -> None:
        self._dht = dht
        self.network = MemoryNetwork()
        identities = [Identity.generate() for _ in range(count)]
        self.nodes = [Node(i.peer_id, MemoryOverlay(self.network, i.peer_id), Recorder()) for i in identities]

    async def start(self) -> None:
        for node in self.nodes:
            await node.overlay.start(node.heard, protocols=[PROTOCOL], topics=[TOPIC], dht=self._dht)

    async def stop(self) -> None:
        for node in self.nodes:
            await node.overlay.stop()

    async def crash(self, node: Node) -> None:
        self.network.restart(node.peer)


class ProcessWorld:
    """``settings`` of each node, over ``common`` ones, over the defaults of a test.

    Without a ``dht`` nobody dials but who is told to.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 3,
        settings: Sequence[dict[str, object]] = (),
        common: Mapping[str, object] = MappingProxyType({}),
        dht: str = DHT,
    ) -> None:
        self._dht = dht
        self.nodes = []
        for number in range(count):
            identity = Identity.generate()
            options = {"listen": ["/ip4/127.0.0.1/tcp/0"], "inbound_per_address_per_s": 1000.0, **common}
            options |= settings[number] if number < len(settings) else {}
            overlay = ProcessOverlay(
                identity,
                OverlayConfig(**options),
                directory / f"run{number}",
                directory / f"overlay{number}.log",
                agent="test/1",
            )
            self.nodes.append(Node(identity.peer_id, overlay, Recorder()))

    async def start(self) -> None:
        await asyncio.gather(
            *(
                node.overlay.start(node.heard, protocols=[PROTOCOL], topics=[TOPIC], dht=self._dht)
                for node in self.nodes
            )
        )

    async def stop(self) -> None:
        await asyncio.gather(*(node.overlay.stop() for node in self.nodes))

    async def crash(self, node: Node) -> None:
        before = len(node.heard.of(Restarted))
        os.kill(pid_of(node), signal.SIGKILL)
        await node.heard.until(lambda: len(node.heard.of(Restarted)) > before)


def pid_of(node: Node) -> int:
    """The process id of the node's overlay."""
    assert isinstance(node.overlay, ProcessOverlay)
    assert node.overlay.pid is not None
    return node.overlay.pid
