"""A 1 KiB request to an expert of another node that does nothing, against an echo over bare py-libp2p.

Real processes at both ends, in the same run; py-libp2p as it ships, and with the one setting that makes it faster.
*Journaled requests* are whole ones: routed, dispatched, served, signed, verified, with every event stored on both nodes
before the answer is given. *Calls* are what carries them.
"""

import asyncio
import json
import os
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
    shipped, tuned = await bare_figures("1"), await bare_figures("0")
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        ours = await node_figures(Path(directory))
    return [
        *compared("journaled remote request", ours["request"], shipped, "py-libp2p as it ships"),
        watched(f"journaled remote requests, {USERS} in flight, p99", ours["request"]["concurrent_p99_ms"], "ms"),
        *compared("the same request", ours["request"], tuned, "py-libp2p with PY_YAMUX_RELEASE_ON_READ=0"),
        *compared("remote call", ours["call"], tuned, "py-libp2p with PY_YAMUX_RELEASE_ON_READ=0"),
        watched(f"remote calls, {USERS} in flight, p99", ours["call"]["concurrent_p99_ms"], "ms"),
    ]


def compared(what: str, ours: Figures, bare: Figures, baseline: str) -> list[Measure]:
    """One at a time, and as many at a time as there are users."""
    sequential, concurrent = bare["sequential_p50_ms"], bare["concurrent_per_s"]
    return [
        at_most(
            f"{what}, p50",
            ours["sequential_p50_ms"],
            "ms",
            baseline=f"a persistent stream of {baseline}, {sequential:.2f} ms",
            against=sequential,
            times=2,
        ),
        at_least(
            f"{what}s, {USERS} in flight",
            ours["concurrent_per_s"],
            "per s",
            baseline=f"a stream for each of {USERS} of {baseline}, {concurrent:,.0f}/s",
            against=concurrent,
            times=1.5,
        ),
    ]


async def bare_figures(release_on_read: str) -> Figures:
    """py-libp2p alone, with this for PY_YAMUX_RELEASE_ON_READ."""
    module, setting = "benchmarks.bare_libp2p", {"PY_YAMUX_RELEASE_ON_READ": release_on_read}
    async with child(module, "server", **setting) as server:
        address = (await line_of(server))["address"]
        async with child(module, "client", str(address), SEQUENTIAL, USERS, EACH // 3, **setting) as client:
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
async def child(module: str, *arguments: object, **environment: str) -> AsyncIterator[Process]:
    """``python -m module`` for as long as the body runs, with ``environment`` besides what there is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
        env={**os.environ, **environment},
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
