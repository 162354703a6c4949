"""How long after an event is emitted its row can be read by another process, at 2,000 events a second."""

import asyncio
import sqlite3
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.events import History
from benchmarks.measure import Measure, below, percentile, watched
from mesh.clock import SystemClock
from mesh.config import BrokerConfig, Config
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.journal import Journal
from mesh.events.store_nats import NatsEventStore
from mesh.home import Home
from mesh.projections.process import projector_process

RATE = 2000
WARM_UP_S = 2.0
SECONDS = 8.0
TICK_S = 0.0005
GIVE_UP_S = 30.0
SEEN = "SELECT min(position) FROM projection_checkpoints"


def run() -> Iterator[Measure]:
    """One run: a node's journal, its projector, and a reader of the tables."""
    import uvloop

    latencies, rate = uvloop.run(_measure())
    yield watched("event rate offered", rate, "events/s")
    yield below("event to row visible, p50", percentile(latencies, 50), "ms", limit=4)
    yield below("event to row visible, p99", percentile(latencies, 99), "ms", limit=25)


async def _measure() -> tuple[list[float], float]:
    """Milliseconds of each event after the warm-up, and the rate at which they really came."""
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory))
        home.create()
        broker = EmbeddedBroker(
            home, BrokerConfig(), on_restart=lambda *_: None, clock=SystemClock(), probe_interval_s=3600
        )
        await broker.start()
        projector = projector_process(home, Config(), on_restart=lambda *_: None)
        history = History()
        journal = Journal(history.owner, NatsEventStore(broker.address("node"), history.owner), SystemClock())
        try:
            await journal.open()
            await projector.start()
            emitted, seen = await _offer(journal, history, home.database)
        finally:
            await projector.stop()
            await journal.close()
            await broker.stop()
    skipped = int(WARM_UP_S * RATE)
    latencies = _latencies(emitted, seen)[skipped:]
    return latencies, (len(emitted) - skipped) / (emitted[-1] - emitted[skipped])


async def _offer(journal: Journal, history: History, database: Path) -> tuple[list[float], list[tuple[int, float]]]:
    """When each event was emitted, and when each position was first seen in the tables."""
    facts = history.facts()
    reader = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    emitted: list[float] = []
    seen: list[tuple[int, float]] = [(0, 0.0)]
    started = perf_counter()
    total = int((WARM_UP_S + SECONDS) * RATE)
    while seen[-1][0] < total:
        due = min(int((perf_counter() - started) * RATE), total)
        while len(emitted) < due:
            told = next(facts)
            journal.emit(told.fact, subject=told.subject, correlation=told.correlation)
            emitted.append(perf_counter())
        (position,) = reader.execute(SEEN).fetchone()
        if position > seen[-1][0]:
            seen.append((position, perf_counter()))
        if perf_counter() - started > WARM_UP_S + SECONDS + GIVE_UP_S:
            raise TimeoutError(f"the tables reached {position} of {total} events")
        await asyncio.sleep(TICK_S)
    reader.close()
    return emitted, seen


def _latencies(emitted: list[float], seen: list[tuple[int, float]]) -> list[float]:
    positions = [position for position, _ in seen]
    return [
        (seen[bisect_right(positions, number)][1] - at) * 1000 for number, at in enumerate(emitted)
    ]  # event `number` counts from 0, so it is visible at the first position beyond that
