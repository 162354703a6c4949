"""How long it takes until two nodes know each other, and until they are connected, and how fast much goes over.

Real processes on loopback, beside bare py-libp2p in the same run.
"""

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Measure, at_least, at_most, below, percentile, watched
from benchmarks.peer_requests import Figures, child, line_of
from mesh.config import OverlayConfig
from mesh.identity import Identity
from mesh.p2p.mdns import MdnsDiscovery, MdnsUnavailable
from mesh.p2p.overlay import Connected, Disconnected, OverlayFact, Stream
from mesh.p2p.overlay_process import ProcessOverlay

CONNECTIONS = 200
NEWCOMERS = 40
BARE_CONNECTIONS = 50
BULK_BYTES = 64 << 20
PROTOCOL = "/benchmark/sink/1.0.0"
_WAIT_S = 10.0


@dataclass
class _Handler:
    facts: asyncio.Queue[OverlayFact] = field(default_factory=asyncio.Queue)
    sink: asyncio.Task[None] | None = None

    def on_fact(self, fact: OverlayFact) -> None:
        self.facts.put_nowait(fact)

    def on_stream(self, stream: Stream) -> None:
        self.sink = asyncio.create_task(_take_all(stream))

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None:
        pass

    async def until(self, kind: type[OverlayFact]) -> None:
        async with asyncio.timeout(_WAIT_S):
            while not isinstance(await self.facts.get(), kind):
                pass


async def _take_all(stream: Stream) -> None:
    """As much as is announced; then one byte back."""
    left = int.from_bytes(await stream.reader.readexactly(8), "big")
    while left:
        left -= len(await stream.reader.read(min(left, 1 << 20)))
    stream.writer.write(b".")


async def measure() -> list[Measure]:
    """Connection set-up and bulk as the node sees them, and mDNS discovery where multicast works."""
    return [*await two_overlays(await bare_figures()), *await mdns_discovery()]


async def bare_figures() -> Figures:
    """py-libp2p alone."""
    async with child("benchmarks.bare_libp2p", "server") as server:
        address = str((await line_of(server))["address"])
        arguments = ("transport", address, BARE_CONNECTIONS, BULK_BYTES)
        async with child("benchmarks.bare_libp2p", *arguments) as client:
            return await line_of(client)


run = measure


async def two_overlays(bare: Figures) -> list[Measure]:
    """``dial`` of a peer: TCP, Noise, Yamux, and the way to the overlay's process and back; then much on one stream."""
    with tempfile.TemporaryDirectory() as directory:
        handlers = [_Handler(), _Handler()]
        nodes = [_overlay(Path(directory) / str(number)) for number in range(2)]
        await asyncio.gather(
            *(
                node.start(handler, protocols=[PROTOCOL], topics=[])
                for (node, _), handler in zip(nodes, handlers, strict=True)
            )
        )
        try:
            took = await _dial_again_and_again(nodes[0][0], *nodes[1], handlers)
            bulk = await _bulk(nodes[0][0], *nodes[1])
        finally:
            await asyncio.gather(*(node.stop() for node, _ in nodes))
    return [
        at_most(
            "connection set-up, p50",
            percentile(took, 50),
            "ms",
            baseline=f"py-libp2p's connect, {bare['p50_ms']:.1f} ms",
            against=bare["p50_ms"],
            times=2,
        ),
        below("connection set-up, p99", percentile(took, 99), "ms", limit=50.0),
        watched("connection set-up of bare py-libp2p, p99", bare["p99_ms"], "ms"),
        at_least(
            "bulk over one stream",
            bulk,
            "MB/s",
            baseline=f"a py-libp2p stream, {bare['bulk_mb_per_s']:.0f} MB/s",
            against=bare["bulk_mb_per_s"],
            times=0.5,
        ),
    ]


async def _dial_again_and_again(
    a: ProcessOverlay, b: ProcessOverlay, peer: str, handlers: list[_Handler]
) -> list[float]:
    took = []
    for _ in range(CONNECTIONS):
        started = time.perf_counter()
        await a.dial(peer, b.addresses, _WAIT_S)
        took.append((time.perf_counter() - started) * 1000)
        await handlers[1].until(Connected)
        await a.disconnect(peer, "measured")
        await handlers[1].until(Disconnected)
    return took[CONNECTIONS // 10 :]


async def _bulk(a: ProcessOverlay, b: ProcessOverlay, peer: str) -> float:
    """MB/s from one node to the other, each with its overlay's process."""
    await a.dial(peer, b.addresses, _WAIT_S)
    stream = await a.open_stream(peer, PROTOCOL, _WAIT_S)
    chunk = os.urandom(64 * 1024)
    started = time.perf_counter()
    stream.writer.write(BULK_BYTES.to_bytes(8, "big"))
    for _ in range(BULK_BYTES // len(chunk)):
        stream.writer.write(chunk)
        await stream.writer.drain()
    await stream.reader.readexactly(1)
    return BULK_BYTES / (time.perf_counter() - started) / 1e6


def _overlay(directory: Path) -> tuple[ProcessOverlay, str]:
    identity = Identity.generate()
    config = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0"], inbound_per_address_per_s=10_000)
    return ProcessOverlay(identity, config, directory, directory / "log", agent="benchmark"), identity.peer_id


async def mdns_discovery() -> list[Measure]:
    """A newcomer starts: until it has found the node that was there before, and that node has found it."""
    found: dict[tuple[str, str], asyncio.Event] = {}

    def announcer(port: int) -> tuple[MdnsDiscovery, str]:
        peer = Identity.generate().peer_id
        addresses = [f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer}"]
        return MdnsDiscovery(peer, mesh, addresses, [], lambda other, _: event(peer, other).set()), peer

    def event(finder: str, other: str) -> asyncio.Event:
        return found.setdefault((finder, other), asyncio.Event())

    mesh = f"benchmark-{Identity.generate().peer_id[-12:].lower()}"
    resident, old = announcer(1)
    try:
        await resident.start()
    except MdnsUnavailable as error:
        print(f"  mDNS is not measured: {error}")
        return []
    took = []
    try:
        for number in range(NEWCOMERS):
            newcomer, new = announcer(2 + number)
            started = time.perf_counter()
            try:
                await newcomer.start()
                async with asyncio.timeout(_WAIT_S):
                    await asyncio.gather(event(old, new).wait(), event(new, old).wait())
                took.append(time.perf_counter() - started)
            finally:
                await newcomer.stop()
    finally:
        await resident.stop()
    return [
        Measure("mDNS discovery, p50", percentile(took, 50), "s", "", None, "", None),
        below("mDNS discovery, p99", percentile(took, 99), "s", limit=0.5),
    ]
