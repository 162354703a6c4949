"""A 64 MiB body and a thousand small calls that share one stream, between real nodes: who waits for whom, and how much
memory it takes.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Measure, at_most, below, percentile, watched
from benchmarks.peer_requests import child, line_of
from mesh.clock import SystemClock
from mesh.config import OverlayConfig
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.identity import Identity
from mesh.p2p.calls import InboundCall, Reply
from mesh.p2p.overlay_process import ProcessOverlay
from mesh.p2p.peers import Peers

MIB = 1 << 20
BODY_BYTES = 64 * MIB
SMALL = 1000
SMALL_BODY = bytes(200)
PIECE_BYTES = 32 * 1024
WITHIN_S = 120.0
IN_FLIGHT = 4


async def run() -> list[Measure]:
    """Measure; about half a minute."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        async with child("benchmarks.bulk", Path(directory) / "server") as server:
            there = await line_of(server)
            async with node(Path(directory) / "client") as (peers, overlay):
                peers.learn(there["peer"], [there["address"]], "static")
                await until_connected(peers, there["peer"])
                pids = {"asking node": os.getpid(), "its overlay": overlay.pid or 0}
                pids |= {"answering node": server.pid, "its overlay there": there["overlay"]}
                return [measure async for measure in measures(peers, there["peer"], pids)]


async def measures(peers: Peers, peer: str, pids: dict[str, int]) -> AsyncIterator[Measure]:
    body = random.Random(1).randbytes(BODY_BYTES)
    await smalls(peers, peer)
    alone = await smalls(peers, peer)
    yield watched("small calls alone, p99", percentile(alone, 99) * 1000, "ms")
    await peers.call(peer, "echo", {}, body, timeout=WITHIN_S)
    before = {name: resident(pid) for name, pid in pids.items()}
    beside, took = await beside_bodies(peers, peer, body)
    yield at_most(
        "small calls beside 64 MiB bodies, p99",
        percentile(beside, 99) * 1000,
        "ms",
        baseline="the same alone",
        against=percentile(alone, 99) * 1000,
        times=2,
    )
    yield watched("64 MiB there and back, beside small calls", 2 * BODY_BYTES / MIB / took, "MiB/s")
    for name, pid in pids.items():
        yield below(f"memory that grew over more bodies: {name}", resident(pid) - before[name], "MiB", limit=96)
    before = {name: resident(pid) for name, pid in pids.items()}
    await streamed(peers, peer)
    for name, pid in pids.items():
        yield below(f"memory that grew over 256 MiB streamed: {name}", resident(pid) - before[name], "MiB", limit=16)


async def smalls(peers: Peers, peer: str, until: "asyncio.Task[Any] | None" = None) -> list[float]:
    """Seconds that each small call took; a thousand, or for as long as the task runs."""
    took: list[float] = []

    async def one_after_another() -> None:
        while not until.done() if until is not None else len(took) < SMALL:
            started = time.perf_counter()
            await peers.call(peer, "echo", {}, SMALL_BODY, timeout=WITHIN_S)
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
    return took


async def beside_bodies(peers: Peers, peer: str, body: bytes) -> tuple[list[float], float]:
    """Small calls for as long as large ones follow one another, at least a thousand; seconds that a large one took."""
    took: list[float] = []
    large: list[float] = []
    while len(took) < SMALL:
        started = time.perf_counter()
        call = asyncio.create_task(peers.call(peer, "echo", {}, body, timeout=WITHIN_S))
        took += await smalls(peers, peer, call)
        assert len((await call).body) == BODY_BYTES
        large.append(time.perf_counter() - started)
    return took, percentile(large, 50)


async def streamed(peers: Peers, peer: str) -> None:
    received = 0

    async def take(piece: bytes) -> None:
        nonlocal received
        received += len(piece)

    await peers.call(peer, "pour", {"bytes": 4 * BODY_BYTES}, b"", timeout=WITHIN_S, on_chunk=take)
    assert received == 4 * BODY_BYTES


def resident(pid: int) -> float:
    return psutil.Process(pid).memory_full_info().uss / MIB


async def echo(call: InboundCall) -> Reply:
    return Reply({}, call.body)


async def pour(call: InboundCall) -> Reply:
    piece = random.Random(2).randbytes(PIECE_BYTES)
    wanted = call.header["bytes"]
    assert isinstance(wanted, int)
    for _ in range(wanted // PIECE_BYTES):
        await call.send(piece)
    return Reply({})


@asynccontextmanager
async def node(directory: Path) -> AsyncIterator[tuple[Peers, ProcessOverlay]]:
    """A node that serves, whose limits let such bodies pass."""
    identity, clock = Identity.generate(), SystemClock()
    config = OverlayConfig(
        listen=["/ip4/127.0.0.1/tcp/0"], mdns=False, max_request_bytes=BODY_BYTES, max_buffered_bytes=4 * BODY_BYTES
    )
    journal = Journal(identity.peer_id, MemoryEventStore(identity.peer_id), clock)
    overlay = ProcessOverlay(identity, config, directory / "run", directory / "log", agent="benchmark")
    peers = Peers(
        overlay, journal, config, peer_id=identity.peer_id, name="bulk", mesh="benchmark", clock=clock, rng_seed=1
    )
    peers.serve("echo", echo)
    peers.serve("pour", pour)
    await journal.open()
    await peers.start()
    try:
        yield peers, overlay
    finally:
        await peers.stop()
        await journal.close()


async def until_connected(peers: Peers, peer: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while peer not in peers.connected():
            await asyncio.sleep(0.02)


async def serve(directory: Path) -> None:
    import json

    async with node(directory) as (peers, overlay):
        line = {"peer": peers.peer_id, "address": overlay.addresses[0], "overlay": overlay.pid}
        print(json.dumps(line), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
