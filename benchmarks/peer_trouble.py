"""What callers notice of one peer of five that becomes ten times slower, or fails three of ten questions.

Six ``mesh up``: one asks, five have the same three experts. Of one of these all are well; of the other two those of one
peer are in trouble. All three are asked at the same time and at the same rate, at random moments and not one after the
other, so that they differ in the trouble alone and what else the machine does is felt by all.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.measure import Measure, at_most, below, percentile, watched
from benchmarks.nodes import WITHIN_S, expert, running, until_offered
from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess

WELL = "well"
TROUBLES = {"slow": "ten times slower", "failing": "failing three of ten"}
PEERS = 5
WARM_UP = 100
REQUESTS = 1200
PER_S = 20.0
TIMES = 1.3
EXPERTS = "benchmarks.uneven_experts"


class Asked:
    """By domain: milliseconds from question to end, and how many questions had no answer."""

    def __init__(self, domains: Sequence[str]) -> None:
        self.took_ms: dict[str, list[float]] = {domain: [] for domain in domains}
        self.failed = dict.fromkeys(domains, 0)

    def add(self, more: "Asked") -> None:
        """Pool with what came of others."""
        for domain, took_ms in more.took_ms.items():
            self.took_ms[domain] += took_ms
            self.failed[domain] += more.failed[domain]

    def p99_ms(self, domain: str) -> float:
        return percentile(self.took_ms[domain], 99)


async def run() -> list[Measure]:
    """Measure; about a minute and a half."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        async with five(Path(directory)) as asking, Mesh.connect(asking.home.root) as mesh:
            return measures(await troubled(mesh, Path(directory) / "trouble", REQUESTS))


@asynccontextmanager
async def five(root: Path) -> AsyncIterator[NodeProcess]:
    """A node that asks five others."""
    async with AsyncExitStack() as stack:

        async def peer(number: int) -> NodeProcess:
            ill = number == 0
            experts = [expert(name, name if ill else WELL, domain=name, of=EXPERTS) for name in (WELL, *TROUBLES)]
            return await stack.enter_async_context(running(root, f"peer{number}", *experts))

        peers = await asyncio.gather(*(peer(number) for number in range(PEERS)))
        asking = await stack.enter_async_context(running(root, "asking", peers=peers))
        await until_offered(asking, *peers, experts=len(TROUBLES) + 1)
        yield asking


async def troubled(mesh: Mesh, trouble: Path, requests: int) -> Asked:
    """What comes of so many requests of each domain from when the trouble begins, after a while without any."""
    domains = (WELL, *TROUBLES)
    await asked(mesh, trouble, domains, WARM_UP)
    trouble.touch()
    return await asked(mesh, trouble, domains, requests)


async def asked(mesh: Mesh, trouble: Path, domains: Sequence[str], count: int, per_s: float = PER_S) -> Asked:
    """What comes of so many requests of each domain, at random moments, so many a second."""
    here = Asked(domains)

    async def ask(domain: str, number: int) -> None:
        await asyncio.sleep(random.uniform(0, count / per_s))
        began, question = time.perf_counter(), f"{trouble} {number}"
        try:
            assert (await mesh.ask(question, domain=domain, timeout=WITHIN_S)).text == question
        except RequestFailed:
            here.failed[domain] += 1
        here.took_ms[domain].append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(ask(domain, number) for domain in domains for number in range(count)))
    return here


def measures(here: Asked) -> list[Measure]:
    """Each trouble beside none."""
    well = here.p99_ms(WELL)
    found = [watched("request to five healthy peers, p99", well, "ms")]
    for domain, what in TROUBLES.items():
        name, beside = f"request with one peer of five {what}", f"all healthy, at the same time, {well:.0f} ms"
        p99_ms = here.p99_ms(domain)
        found.append(at_most(f"{name}, p99", p99_ms, "ms", baseline=beside, against=well, times=TIMES))
        found.append(below(f"{name}, without an answer", here.failed[domain], "requests", limit=0))
    return found
