"""How long it takes until a peer that died is known to be dead: `peer.confirmed_down`, at the default heartbeat of 1 s.

Some members watch others, which are processes of their own. First these fall silent, as a machine does that loses its
power or its network: nothing is closed, and only heartbeats tell. Then they are killed with -9, and the kernel says so.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.measure import Measure, below, percentile, watched
from benchmarks.members import Member, member, quietly, until_connected
from benchmarks.peer_requests import child, line_of
from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary.network import PeerConfirmedDown, PeerDisconnected

OBSERVERS = 4
VICTIMS = 8
SILENCES = 3
SETTLE_S = 10.0
WITHIN_S = 60.0
LIMIT_S = 5.0


@dataclass
class Victim:
    """A member in a process of its own, and the process of its overlay."""

    peer: str
    processes: tuple[psutil.Process, psutil.Process]

    def freeze(self) -> None:
        for process in self.processes:
            process.suspend()

    def thaw(self) -> None:
        for process in self.processes:
            process.resume()

    def kill(self) -> None:
        """The node alone: its overlay's process must not outlive it."""
        self.processes[0].kill()

    def end(self) -> None:
        """Whatever state it is in: one that stands still would not take notice of being asked to end."""
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@dataclass
class Watch:
    """What the observers think of the victims: when each last learned of which death."""

    down: dict[tuple[str, str], float] = field(default_factory=dict)
    gone: dict[tuple[str, str], float] = field(default_factory=dict)
    died_at: dict[str, float] = field(default_factory=dict)
    accused: list[str] = field(default_factory=list)

    def after(self, noticed: dict[tuple[str, str], float]) -> list[float]:
        """Seconds from the death of each to when each observer noticed."""
        return [at - self.died_at[peer] for (_, peer), at in noticed.items() if peer in self.died_at]

    def listen(self, observer: Member) -> None:
        def hear(event: Event) -> None:
            self._hear(observer.peer, event.fact)

        observer.journal.listen(hear)

    def _hear(self, observer: str, fact: Fact) -> None:
        if isinstance(fact, PeerDisconnected):
            self.gone.setdefault((observer, fact.peer), time.perf_counter())
        elif isinstance(fact, PeerConfirmedDown) and fact.peer in self.died_at:
            self.down.setdefault((observer, fact.peer), time.perf_counter())
        elif isinstance(fact, PeerConfirmedDown):
            self.accused.append(fact.peer)


async def run() -> list[Measure]:
    """Measure; about a minute and a half."""
    quietly()
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        async with AsyncExitStack() as stack:
            root, watch = Path(directory), Watch()
            observers = [await member(stack, root / f"observer {number}") for number in range(OBSERVERS)]
            for observer in observers:
                watch.listen(observer)
                observer.meet(*observers)
            victims = [await victim(stack, root / f"victim {number}", observers) for number in range(VICTIMS)]
            silent: list[float] = []
            for _ in range(SILENCES):
                await calm(observers)
                silent += await deaths(watch, victims, Victim.freeze)
                for one in victims:
                    one.thaw()
            await calm(observers)
            watch.gone.clear()
            killed = await deaths(watch, victims, Victim.kill)
            return list(measures(silent, killed, watch.after(watch.gone), len(watch.accused)))


async def calm(observers: list[Member]) -> None:
    """All are connected, and their detectors know the rhythm."""
    await until_connected(observers, OBSERVERS - 1 + VICTIMS)
    await asyncio.sleep(SETTLE_S)


async def deaths(watch: Watch, victims: list[Victim], die: Callable[[Victim], None]) -> list[float]:
    """Let them die within the second that is between two heartbeats; seconds until each observer knew of each."""
    watch.down.clear()
    watch.died_at.clear()
    for one in random.Random(len(victims)).sample(victims, len(victims)):
        await asyncio.sleep(random.random() * 2 / VICTIMS)
        watch.died_at[one.peer] = time.perf_counter()
        die(one)
    async with asyncio.timeout(WITHIN_S):
        while len(watch.down) < OBSERVERS * VICTIMS:
            await asyncio.sleep(0.05)
    return watch.after(watch.down)


async def victim(stack: AsyncExitStack, directory: Path, observers: list[Member]) -> Victim:
    process = await stack.enter_async_context(child("benchmarks.members", directory))
    line = await line_of(process)
    one = Victim(line["peer"], (psutil.Process(process.pid), psutil.Process(line["overlay"])))
    stack.callback(one.end)
    for observer in observers:
        observer.peers.learn(one.peer, line["addresses"], "static")
    return one


def measures(silent: list[float], killed: list[float], gone: list[float], accused: int) -> Iterable[Measure]:
    """Seconds from each death to when each observer knew."""
    yield watched("peer that falls silent to peer.confirmed_down, p50", percentile(silent, 50), "s")
    yield below("peer that falls silent to peer.confirmed_down, p99", percentile(silent, 99), "s", limit=LIMIT_S)
    yield watched("kill -9 of a peer to peer.disconnected, p50", percentile(gone, 50) * 1000, "ms")
    yield watched("kill -9 of a peer to peer.disconnected, p99", percentile(gone, 99) * 1000, "ms")
    yield watched("kill -9 of a peer to peer.confirmed_down, p50", percentile(killed, 50), "s")
    yield below("kill -9 of a peer to peer.confirmed_down, p99", percentile(killed, 99), "s", limit=LIMIT_S)
    yield below("living peers that were called dead meanwhile", accused, "peers", limit=0)
