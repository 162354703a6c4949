"""Whole requests over the node's NATS API, with the Python client, to an expert of another node that does nothing.

``mesh up`` at both ends. Each is routed, dispatched, served, signed and verified, and every event of it stored on both
nodes before it is answered. None may be lost: whoever asked has an answer, and the tables know it as completed.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import Measure, below, percentile, watched
from benchmarks.nodes import WITHIN_S, expert, number_of, running, settled, until_offered
from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess

# So many at a time, and how many in all.
LEVELS = {1: 500, 16: 3000, 64: 5000, 256: 5000}
WARM_UP = 300
COMPLETED = "SELECT count(*) FROM requests WHERE state = 'completed'"


def run() -> Iterable[Measure]:
    """Measure; about half a minute."""
    import uvloop

    return uvloop.run(_measure())


async def _measure() -> list[Measure]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        root = Path(directory)
        async with (
            running(root, "serving", expert("null", "answer")) as serving,
            running(root, "asking", peers=[serving]) as asking,
        ):
            await until_offered(asking, serving)
            return await _levels(asking)


async def _levels(asking: NodeProcess) -> list[Measure]:
    found = []
    async with Mesh.connect(asking.home.root) as mesh:
        answered = len((await _asked(mesh, WARM_UP, 16))[0])
        for users, requests in LEVELS.items():
            took, seconds = await _asked(mesh, requests, users)
            answered += len(took)
            name = f"journaled requests over the API, {users} at a time"
            found.append(watched(name, len(took) / seconds, "per s"))
            found += [watched(f"{name}, p{p}", percentile(took, p), "ms") for p in (50, 99)]
    await settled(asking)
    lost = WARM_UP + sum(LEVELS.values()) - min(answered, await number_of(asking, COMPLETED))
    return [*found, below("requests over the API that were lost", lost, "requests", limit=0)]


async def _asked(mesh: Mesh, requests: int, users: int) -> tuple[list[float], float]:
    """Milliseconds of each that was answered as it should be, and the seconds that all took."""
    todo = list(range(requests))
    took: list[float] = []

    async def user() -> None:
        while todo:
            question, began = f"question {todo.pop()}", time.perf_counter()
            try:
                outcome = await mesh.ask(question, domain="language", timeout=WITHIN_S)
            except RequestFailed as failure:
                print(f"  {failure.kind}: {failure}")
                continue
            if outcome.text == question:
                took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(users)))
    return took, time.perf_counter() - began
