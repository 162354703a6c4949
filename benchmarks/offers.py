"""How long it takes until an offer that changes is seen by all of ten members of a mesh, and by all of fifty.

Each has an overlay process of its own, over real sockets; seen is what is in a member's journal. Ten are all connected
to all. Of fifty, each is connected to the one that changes its offer, since offers are taken of connected peers alone,
and to four others: with 1225 connections two cores would be busy with heartbeats. Beside both, py-libp2p's gossipsub
with the same degrees and the same connections, its hosts in one process: it would leave out who is connected to the
teller alone.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.measure import Measure, beside, percentile, watched
from benchmarks.members import Member, member, quietly
from benchmarks.peer_requests import child, line_of
from benchmarks.topology import degrees, pairs
from mesh.events.envelope import Event
from mesh.events.vocabulary.experts import ExpertOffered

SIZES = (10, 50)
CHANGES = 12
AT_A_TIME = 2
# Until all run and are connected; for all changes together; for one of them, which is pulled when gossip loses it.
READY_WITHIN_S = 240.0
CHANGING_S = 60.0
SEEN_WITHIN_S = 60.0
SETTLE_S = 10.0
# What changes is told at most once a second.
PAUSE_S = (1.5, 3.0)


class Seen:
    """When each member recorded each price of the one that tells."""

    def __init__(self) -> None:
        self.at: dict[float, dict[str, float]] = {}
        self.teller = ""
        self._news = asyncio.Event()

    def listen(self, one: Member) -> None:
        def hear(event: Event) -> None:
            fact = event.fact
            if isinstance(fact, ExpertOffered) and fact.peer == self.teller:
                self.at.setdefault(fact.price, {}).setdefault(one.peer, time.perf_counter())
                self._news.set()

        one.journal.listen(hear)

    async def by(self, count: int, price: float) -> list[float]:
        """When each saw it, once so many have; whoever has not after a minute is said to have seen it then."""
        began = time.perf_counter()
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_WITHIN_S):
                while len(self.at.get(price, ())) < count:
                    self._news.clear()
                    await self._news.wait()
        seen = list(self.at.get(price, {}).values())
        return seen + [began + SEEN_WITHIN_S] * (count - len(seen))


async def run() -> list[Measure]:
    """Measure; four minutes, most of which the overlays take to start."""
    quietly()
    found: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        async with AsyncExitStack() as stack:
            seen, members = Seen(), []
            for size in SIZES:
                try:
                    async with asyncio.timeout(READY_WITHIN_S):
                        async for one in started(stack, Path(directory), range(len(members), size)):
                            seen.listen(one)
                            members.append(one)
                        await connect(members)
                except TimeoutError:
                    print(
                        f"  {size} nodes are not measured: this machine did not have them within {READY_WITHIN_S:g} s"
                    )
                    break
                seen.teller = members[0].peer
                await asyncio.sleep(SETTLE_S)  # gossipsub has found its neighbours, and told of them
                found += measures(size, await changes(members, seen), await bare_gossip(size))
    return found


async def started(stack: AsyncExitStack, directory: Path, numbers: range) -> AsyncIterator[Member]:
    """Two at a time: starting one is two seconds of one core."""
    for first in numbers[::AT_A_TIME]:
        some = [number for number in range(first, first + AT_A_TIME) if number in numbers]
        for one in await asyncio.gather(*(member(stack, directory / str(number)) for number in some)):
            yield one


async def connect(members: list[Member]) -> None:
    for first, second in pairs(len(members)):
        members[first].meet(members[second])
    for one, wanted in zip(members, degrees(len(members)), strict=True):
        while len(one.peers.connected()) < wanted:
            await asyncio.sleep(0.1)


async def changes(members: list[Member], seen: Seen) -> list[list[float]]:
    """For each change, how many ms later each of the others saw it, in order."""
    rng, teller = random.Random(len(members)), members[0]
    found: list[list[float]] = []
    over = time.perf_counter() + CHANGING_S
    for number in range(CHANGES):
        if found and time.perf_counter() > over:
            break
        await asyncio.sleep(rng.uniform(*PAUSE_S))
        price = float(1000 * len(members) + number)
        teller.offering.set_price(price)
        began = time.perf_counter()
        teller.board.changed()
        found.append(sorted((at - began) * 1000 for at in await seen.by(len(members), price))[1:])
    return found


async def bare_gossip(size: int) -> dict[str, Any]:
    async with child("benchmarks.bare_gossip", size, CHANGES // 2) as process:
        return await line_of(process)


def measures(size: int, took: list[list[float]], bare: dict[str, Any]) -> list[Measure]:
    """``took``: ms by change and member."""
    each, last = [ms for change in took for ms in change], [change[-1] for change in took]
    theirs, baseline = bare["each_ms"], f"py-libp2p's gossipsub, to {bare['reached']:.0%} of them"
    print(f"  the last of {size} saw each change after {', '.join(f'{ms:.0f}' for ms in last)} ms")
    return [
        _beside(f"an offer that changes is seen by one of {size} nodes, p50", each, 50, theirs, baseline),
        _beside(f"an offer that changes is seen by one of {size} nodes, p99", each, 99, theirs, baseline),
        _beside(f"an offer that changes is seen by all {size} nodes, p50", last, 50, bare["all_ms"], baseline),
        _beside(f"an offer that changes is seen by all {size} nodes, worst", last, 100, bare["all_ms"], baseline),
    ]


def _beside(name: str, values: list[float], percent: float, theirs: list[float], baseline: str) -> Measure:
    value = percentile(values, percent)
    if not theirs:
        return watched(name, value, "ms")
    against = percentile(theirs, percent)
    return beside(name, value, "ms", baseline=f"{baseline}, {against:.0f} ms", against=against)
