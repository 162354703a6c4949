"""Databases of projections to test with, and journals to fill them from."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from mesh.events.envelope import Event, Fact, Record
from mesh.projections.database import writer_engine
from mesh.projections.digest import Digest, digest
from mesh.projections.migrate import migrate
from mesh.projections.projection import Projection, Row
from mesh.projections.runner import Runner
from mesh.projections.tables import METADATA

NODE = "node-1"
TIME = "2026-11-22T10:00:00.000000Z"


class ListReader:
    """Reads a list of records as if it were a journal, ``batch`` at a time."""

    def __init__(self, records: Sequence[Record], batch: int = 100) -> None:
        self.records = records
        self._batch = batch

    async def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        stop = len(self.records) if last is None else min(last, len(self.records))
        for start in range(first - 1, stop, self._batch):
            yield list(self.records[start : min(start + self._batch, stop)])

    async def follow(self, first: int = 1) -> AsyncIterator[list[Record]]:
        async for batch in self.read(first):
            yield batch

    async def scan(self, first: int = 1) -> AsyncIterator[list[Record]]:
        async for batch in self.read(first):
            yield batch


@contextmanager
def empty_tables(directory: Path, name: str = "state") -> Iterator[Engine]:
    """A SQLite database with all tables, made without migrations."""
    engine = writer_engine(f"sqlite:///{directory / name}.sqlite")
    try:
        METADATA.create_all(engine)
        yield engine
    finally:
        engine.dispose()


def projected(directory: Path, journal: Sequence[Record]) -> Path:
    """A file with the tables of ``journal``, as a projector makes them; nobody has it open."""
    file = directory / "state.sqlite"
    engine = writer_engine(f"sqlite:///{file}")
    migrate(engine)
    runner = Runner(engine)
    runner.open()
    runner.apply(journal)
    engine.dispose()
    return file


def digest_of(engine: Engine) -> Digest:
    with engine.begin() as connection:
        return digest(connection)


def event(fact: Fact, position: int = 1, **envelope: Any) -> Event:
    """An event around ``fact``, seen by NODE at a second that equals its position."""
    fields: dict[str, Any] = {
        "id": f"id-{position}",
        "prev": b"",
        "time": f"2026-11-22T10:{position // 60:02d}:{position % 60:02d}.000000Z",
        "origin": NODE,
        "origin_seq": position,
        "subject": "",
        "correlation": "",
        "causation": "",
    }
    return Event(position=position, fact=fact, **{**fields, **envelope})


def folded(projection: Projection[Any], *facts: Fact | Event) -> dict[Any, Row]:
    """Given these facts in this order, the rows of the table by key."""
    from mesh.projections.fold import append, fold, keyed

    events = [fact if isinstance(fact, Event) else event(fact, position) for position, fact in enumerate(facts, 1)]
    if projection.append_only:
        return {tuple(getattr(row, name) for name in projection.key): row for row in append(projection, events)}
    rows: dict[Any, Row | None] = {}
    fold(projection, keyed(projection, events), rows)
    finish = projection.finish or (lambda row: row)
    return {key: finish(row) for key, row in rows.items() if row is not None}


def only_row(projection: Projection[Any], *facts: Fact | Event) -> Any:
    """`folded`, where it gives one row."""
    (row,) = folded(projection, *facts).values()
    return row
