"""What a caller notices when a node that serves is killed with 16 of its requests under way.

Three ``mesh up``: one asks, two have the same expert, which takes 20 ms. One of the two is killed with -9, again and
again, each time after it was started anew.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmarks.measure import Measure, below, percentile, watched
from benchmarks.nodes import WITHIN_S, expert, rows_of, running, settled, until_offered
from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess

DEATHS = 5
AT_ONCE = 16
BEFORE_S = 2.0
AFTER_S = 5.0
# What was taken back since another answered first is not what a death costs.
FAILED = "SELECT finished_at FROM attempts WHERE state = 'failed' AND error_kind <> 'cancelled' ORDER BY finished_at"


@dataclass(frozen=True)
class Asked:
    """A request: when it began and ended (Unix time), and why it failed, if it did."""

    began: float
    ended: float
    failure: str = ""


@dataclass
class Load:
    """Users who ask for as long as the body of `load` runs, and what became of it."""

    asked: list[Asked] = field(default_factory=list)
    over: bool = False

    async def user(self, mesh: Mesh) -> None:
        while not self.over:
            began, failure = time.time(), ""
            try:
                await mesh.ask(f"question {len(self.asked)}", domain="language", timeout=WITHIN_S)
            except RequestFailed as error:
                failure = error.kind
            self.asked.append(Asked(began, time.time(), failure))


@asynccontextmanager
async def load(node: NodeProcess) -> AsyncIterator[Load]:
    here = Load()
    async with Mesh.connect(node.home.root) as mesh, asyncio.TaskGroup() as users:
        for _ in range(AT_ONCE):
            users.create_task(here.user(mesh))
        yield here
        here.over = True


async def run() -> list[Measure]:
    """Measure; about a minute."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        root, brief = Path(directory), expert("brief", "brief")
        async with (
            running(root, "one", brief) as one,
            running(root, "two", brief) as two,
            running(root, "asking", peers=[one, two]) as asking,
        ):
            await until_offered(asking, one, two)
            async with load(asking) as here:
                killed_at = [await death(asking, (one, two)[number % 2]) for number in range(DEATHS)]
            await settled(asking)
            failed_at = [_unix(at) for (at,) in await rows_of(asking, FAILED)]
    return list(measures(killed_at, here.asked, failed_at))


async def death(asking: NodeProcess, victim: NodeProcess) -> float:
    """Kill it under load, wait for what comes of that, and bring it back; when it was killed (Unix time)."""
    await asyncio.sleep(BEFORE_S)
    killed_at = time.time()
    await victim.kill()
    await asyncio.sleep(AFTER_S)
    await victim.start()
    await until_offered(asking, victim)
    return killed_at


def measures(killed_at: list[float], asked: list[Asked], failed_at: list[float]) -> Iterable[Measure]:
    """What those who asked noticed, and what the node that asks did."""
    failed = [each.ended for each in asked if each.failure]
    under_way = [each for each in asked for at in killed_at if each.began < at < each.ended]
    kinds = ", ".join(sorted({each.failure for each in asked if each.failure}))
    print(f"  {len(asked):,} requests, {len(under_way)} of them under way at a death; failures: {kinds or 'none'}")
    yield below(f"requests that failed over {DEATHS} deaths of a serving peer", len(failed), "requests", limit=0)
    yield watched("peer death to the last failed request, worst", max(_last_after(killed_at, failed)), "ms")
    yield watched("attempts that failed at a peer's death", len(failed_at) / DEATHS, "attempts")
    yield watched("peer death to the last failed attempt, p50", percentile(_last_after(killed_at, failed_at), 50), "ms")
    yield watched("peer death to the last failed attempt, worst", max(_last_after(killed_at, failed_at)), "ms")
    took = [(each.ended - each.began) * 1000 for each in under_way]
    yield watched("request under way at a peer's death, p50", percentile(took, 50), "ms")
    yield watched("request under way at a peer's death, slowest", max(took), "ms")
    calm = [(each.ended - each.began) * 1000 for each in asked if each.ended < killed_at[0]]
    yield watched("the same before any death, p50", percentile(calm, 50), "ms")


def _last_after(killed_at: list[float], times: list[float]) -> list[float]:
    """For each death, how many milliseconds after it the last of these was that came before the next; 0: none did."""
    until = [*killed_at[1:], float("inf")]
    return [
        max([(each - at) * 1000 for each in times if at <= each < end], default=0.0)
        for at, end in zip(killed_at, until, strict=True)
    ]


def _unix(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
