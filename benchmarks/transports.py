"""What each transport and security costs beside TCP with Noise: setting a connection up, and moving a large body."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Measure, percentile
from mesh.config import OverlayConfig
from mesh.identity import Identity
from mesh.p2p import network_key
from mesh.p2p.overlay import Connected, Disconnected, OverlayFact, Stream
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.certificates import make_certificate

CONNECTIONS = 40
BULK_BYTES = 64 << 20
_CHUNK = os.urandom(64 * 1024)
_WAIT_S = 60.0
BASELINE = "tcp, noise"


class _Handler:
    def __init__(self) -> None:
        self.facts: asyncio.Queue[OverlayFact] = asyncio.Queue()
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()

    def on_fact(self, fact: OverlayFact) -> None:
        self.facts.put_nowait(fact)

    def on_stream(self, stream: Stream) -> None:
        self.streams.put_nowait(stream)

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None:
        pass

    async def until(self, kind: type[OverlayFact]) -> None:
        async with asyncio.timeout(_WAIT_S):
            while not isinstance(await self.facts.get(), kind):
                pass


def variants(directory: Path) -> dict[str, dict[str, object]]:
    """Settings of both nodes, by name."""
    certificate = str(make_certificate(directory))
    network_key.write_file(directory / "swarm.key", network_key.generate())
    tls = {"wss_certificate": certificate, "wss_trust": certificate}
    return {
        BASELINE: {"listen": ["/ip4/127.0.0.1/tcp/0"]},
        "tcp, tls": {"listen": ["/ip4/127.0.0.1/tcp/0"], "security": ["tls"]},
        "tcp, noise, network key": {"listen": ["/ip4/127.0.0.1/tcp/0"], "psk_file": str(directory / "swarm.key")},
        "ws, noise": {"listen": ["/ip4/127.0.0.1/tcp/0/ws"]},
        "wss, noise": {"listen": ["/ip4/127.0.0.1/tcp/0/tls/ws"], **tls},
        "webrtc-direct, noise": {"listen": ["/ip4/127.0.0.1/udp/0/webrtc-direct"]},
        "quic-v1": {"listen": ["/ip4/127.0.0.1/udp/0/quic-v1"]},
    }


async def measure() -> list[Measure]:
    """Set-up (p50) and bulk of each, with its ratio to TCP with Noise in the same run."""
    found: list[Measure] = []
    base: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as directory:
        for name, settings in variants(Path(directory)).items():
            set_up_ms, bulk = await _measure_one(Path(directory) / name.replace(", ", "-").replace(" ", "-"), settings)
            base = base or (set_up_ms, bulk)
            against = "" if name == BASELINE else BASELINE
            found += [
                _beside(f"connection set-up over {name}, p50", set_up_ms, "ms", against, base[0]),
                _beside(f"64 MiB over {name}", bulk, "MB/s", against, base[1]),
            ]
    return found


run = measure


def _beside(name: str, value: float, unit: str, against: str, base: float) -> Measure:
    return Measure(name, value, unit, against, value / base if against else None, "", None)


async def _measure_one(directory: Path, settings: dict[str, object]) -> tuple[float, float]:
    handlers = [_Handler(), _Handler()]
    nodes = [_overlay(directory / str(number), settings) for number in range(2)]
    await asyncio.gather(
        *(
            node.start(handler, protocols=["/bulk"], topics=[])
            for (node, _), handler in zip(nodes, handlers, strict=True)
        )
    )
    try:
        (a, _), (b, peer) = nodes
        took = await _set_up(a, b, peer, handlers[1])
        await a.dial(peer, b.addresses, _WAIT_S)
        return percentile(took, 50), await _bulk(a, peer, handlers[1])
    finally:
        await asyncio.gather(*(node.stop() for node, _ in nodes))


async def _set_up(a: ProcessOverlay, b: ProcessOverlay, peer: str, there: _Handler) -> list[float]:
    took = []
    for _ in range(CONNECTIONS):
        started = time.perf_counter()
        await a.dial(peer, b.addresses, _WAIT_S)
        took.append((time.perf_counter() - started) * 1000)
        await there.until(Connected)
        await a.disconnect(peer, "measured")
        await there.until(Disconnected)
    return took[CONNECTIONS // 10 :]


async def _bulk(a: ProcessOverlay, peer: str, there: _Handler) -> float:
    near = await a.open_stream(peer, "/bulk", _WAIT_S)
    far = await there.streams.get()

    async def send() -> None:
        for _ in range(BULK_BYTES // len(_CHUNK)):
            near.writer.write(_CHUNK)
            await near.writer.drain()
        near.writer.write_eof()

    started = time.perf_counter()
    sending = asyncio.create_task(send())
    received = 0
    async with asyncio.timeout(_WAIT_S):
        while data := await far.reader.read(1 << 20):
            received += len(data)
        await sending
    assert received == BULK_BYTES
    return BULK_BYTES / 1e6 / (time.perf_counter() - started)


def _overlay(directory: Path, settings: dict[str, object]) -> tuple[ProcessOverlay, str]:
    identity = Identity.generate()
    config = OverlayConfig(**{"inbound_per_address_per_s": 10_000, **settings})
    return ProcessOverlay(identity, config, directory, directory / "log", agent="benchmark"), identity.peer_id
