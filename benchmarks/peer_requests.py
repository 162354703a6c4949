"""A 1 KiB request to an expert of another node that does nothing, against an echo over bare py-libp2p.

Real processes at both ends, in the same run. *Journaled requests* are whole ones: routed, dispatched, served, signed,
verified, with every event stored on both nodes before the answer is given. *Calls* are what carries them.
"""

import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Measure, at_least, at_most, watched
from mesh.home import Home
from mesh.setup import initialise

SEQUENTIAL = 1000
USERS = 64
EACH = 100
WITHIN_S = 180.0
_LINE_BYTES = 1 << 20

Figures = dict[str, float]

CONFIG = """
[node]
mesh = "benchmark"
[overlay]
listen = ["/ip4/127.0.0.1/tcp/0"]
mdns = false
peers = [{peers}]
offer_interval_s = 1.0
[log]
level = "warning"
{expert}
"""
EXPERT = """
[[experts]]
name = "null"
backend = "python"
domains = ["language"]
concurrency = 256
options = { path = "benchmarks.null_expert:answer" }
"""


async def run() -> list[Measure]:
    """Measure; about a minute."""
    bare = await bare_figures()
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        ours = await node_figures(Path(directory))
    return compared(bare, ours["call"], ours["request"])


def compared(bare: Figures, call: Figures, request: Figures) -> list[Measure]:
    """The figures as measures."""
    stream = f"a persistent py-libp2p stream, {bare['sequential_p50_ms']:.2f} ms"
    slots = f"a py-libp2p stream for each of {USERS}, {bare['concurrent_per_s']:,.0f}/s"
    sequential, concurrent = bare["sequential_p50_ms"], bare["concurrent_per_s"]
    return [
        at_most(
            "journaled remote request, p50",
            request["sequential_p50_ms"],
            "ms",
            baseline=stream,
            against=sequential,
            times=2,
        ),
        at_least(
            f"journaled remote requests, {USERS} in flight",
            request["concurrent_per_s"],
            "per s",
            baseline=slots,
            against=concurrent,
            times=1.5,
        ),
        watched(f"journaled remote requests, {USERS} in flight, p99", request["concurrent_p99_ms"], "ms"),
        at_most("remote call, p50", call["sequential_p50_ms"], "ms", baseline=stream, against=sequential, times=2),
        at_least(
            f"remote calls, {USERS} in flight",
            call["concurrent_per_s"],
            "per s",
            baseline=slots,
            against=concurrent,
            times=1.5,
        ),
        watched(f"remote calls, {USERS} in flight, p99", call["concurrent_p99_ms"], "ms"),
    ]


async def bare_figures() -> Figures:
    """py-libp2p alone."""
    async with child("benchmarks.bare_libp2p", "server") as server:
        address = (await line_of(server))["address"]
        async with child("benchmarks.bare_libp2p", "client", str(address), SEQUENTIAL, USERS, EACH // 3) as client:
            return await line_of(client)


async def node_figures(directory: Path) -> dict[str, Figures]:
    """Two nodes."""
    serving, asking = Home(directory / "server"), Home(directory / "client")
    initialise(serving, config=CONFIG.format(peers="", expert=EXPERT))
    async with child("benchmarks.node_pair", "server", serving.root) as server:
        address = (await line_of(server))["address"]
        initialise(asking, config=CONFIG.format(peers=json.dumps(address), expert=""))
        async with child("benchmarks.node_pair", "client", asking.root, SEQUENTIAL, USERS, EACH) as client:
            return await line_of(client)


@asynccontextmanager
async def child(module: str, *arguments: object) -> AsyncIterator[Process]:
    """``python -m module`` for as long as the body runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def line_of(process: Process) -> dict[str, Any]:
    """The next line of JSON that a child prints; what else it prints is passed over."""
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        while line := await process.stdout.readline():
            if line.startswith(b"{"):
                return dict(json.loads(line))
    raise RuntimeError(f"a child ended without a result, with status {await process.wait()}")
