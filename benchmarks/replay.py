"""How fast the tables are made anew: 200,000 mixed events of the journal into every projection."""

import gc
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.events import History, records
from benchmarks.measure import Measure, above, at_least, timed, watched
from mesh.clock import SystemClock
from mesh.config import BrokerConfig
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.codec import decode
from mesh.events.reader_nats import NatsEventReader
from mesh.events.store_nats import NatsEventStore
from mesh.home import Home
from mesh.projections.catch_up import BATCH, catch_up, coalesced, collecting_rarely
from mesh.projections.database import writer_engine
from mesh.projections.fold import Router, append, fold, keyed
from mesh.projections.folds import PROJECTIONS
from mesh.projections.migrate import migrate
from mesh.projections.runner import Runner

EVENTS = 200_000
ROUNDS = 3
APPENDED_AT_ONCE = 5000


class Filled(NamedTuple):
    """A journal that is ready to be read."""

    broker: EmbeddedBroker
    reader: NatsEventReader


def run() -> Iterator[Measure]:
    """Rounds with and without SQL in turn, so that a busy machine is as hard on one as on the other."""
    import uvloop

    rates = uvloop.run(_measure())
    yield above("replay into all tables", rates["sql"], "events/s", limit=50_000)
    yield at_least(
        "replay into all tables, against no SQL",
        rates["sql"],
        "events/s",
        baseline="the same events read, decoded and folded in memory",
        against=rates["memory"],
        times=0.5,
    )
    yield watched("database size", rates["bytes"], "bytes/event")


async def _measure() -> dict[str, float]:
    times: dict[str, list[float]] = {"sql": [], "memory": []}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with filled_journal(directory, EVENTS) as filled:
            reader = filled.reader
            for number in range(ROUNDS):
                database = directory / f"{number}.sqlite"
                times["memory"].append(await _seconds(lambda: _into_memory(reader)))
                times["sql"].append(await _seconds(lambda: _into_tables(reader, database)))  # noqa: B023 - awaited
                size = database.stat().st_size
    return {name: EVENTS / median(seconds) for name, seconds in times.items()} | {"bytes": size / EVENTS}


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    gc.collect()
    gc.freeze()
    with timed() as took:
        await work()
    return took.seconds


async def _into_memory(reader: NatsEventReader) -> None:
    router = Router(PROJECTIONS)
    tables: list[dict[Any, Any]] = [{} for _ in PROJECTIONS]
    with collecting_rarely():
        async for batch in coalesced(reader.read(), BATCH):
            routed = router.route(decode(record) for record in batch)
            for projection, events, rows in zip(PROJECTIONS, routed, tables, strict=True):
                if projection.append_only:
                    append(projection, events)
                else:
                    fold(projection, keyed(projection, events), rows)


async def _into_tables(reader: NatsEventReader, database: Path) -> None:
    engine = writer_engine(f"sqlite:///{database}")
    try:
        migrate(engine)
        runner = Runner(engine)
        runner.open()
        assert await catch_up(runner, reader) == EVENTS
    finally:
        engine.dispose()


@asynccontextmanager
async def filled_journal(directory: Path, events: int) -> AsyncIterator[Filled]:
    """A broker whose stream holds ``events`` events of a history."""
    broker = EmbeddedBroker(
        Home(directory / "home"), BrokerConfig(), on_restart=lambda *_: None, clock=SystemClock(), probe_interval_s=3600
    )
    await broker.start()
    try:
        store = NatsEventStore(broker.address("node"), History().owner)
        await store.open()
        history = records(events)
        for start in range(0, events, APPENDED_AT_ONCE):
            for record in history[start : start + APPENDED_AT_ONCE]:
                store.append(record)
            await store.wait_stored(min(start + APPENDED_AT_ONCE, events))
        await store.close()
        yield Filled(broker, NatsEventReader(broker.address("operator")))
    finally:
        await broker.stop()
