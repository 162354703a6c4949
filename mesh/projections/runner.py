"""Folds the journal into the tables: a batch, its rows and the checkpoint are one transaction."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, MetaData

from mesh.clock import Clock, SystemClock, rfc3339
from mesh.errors import JournalBroken
from mesh.events.codec import decode
from mesh.events.envelope import Event, Record
from mesh.projections.checkpoints import Checkpoint, Ledger, add_missing, common_position
from mesh.projections.fold import Keyed, Router, append, fold, keyed, needed
from mesh.projections.folds import PROJECTIONS
from mesh.projections.projection import Key, Projection, Row
from mesh.projections.table_store import TableStore
from mesh.projections.tables import METADATA

CACHED_ROWS = 20_000


class CheckpointMoved(Exception):
    """Somebody else moved the tables (a rebuild swapped them): go on reading after ``position``."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the tables now stand at position {position}")
        self.position = position


class Runner:
    """Keeps the tables of ``projections`` in one database up to date. Not for use by several threads.

    ``cached_rows`` is how many rows of each table stay in memory between batches.
    """

    def __init__(
        self,
        engine: Engine,
        projections: Sequence[Projection[Any]] = PROJECTIONS,
        *,
        metadata: MetaData = METADATA,
        cached_rows: int = CACHED_ROWS,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._projections = tuple(projections)
        self._ledger = Ledger(self._projections, engine.dialect)
        self._router = Router(self._projections)
        self._tables = [
            _CachedTable(TableStore(p, metadata.tables[p.name], engine.dialect), cached_rows) for p in self._projections
        ]
        self._clock = clock or SystemClock()
        self._seen: dict[str, Checkpoint] = {}
        self.position = 0

    def open(self) -> int:
        """Find where the tables stand and return that position. Raises TablesStale when some must be rebuilt."""
        with self._engine.begin() as connection:
            add_missing(connection, self._projections, self._now())
            self._resume(self._ledger.read(connection))
        return self.position

    def apply(self, records: Sequence[Record]) -> None:
        """Fold the records that follow `position` and commit their rows.

        Raises JournalBroken, CheckpointMoved (nothing was written), or whatever the database raises; after a
        failure call `open` again.
        """
        events = _decoded(records, self.position)
        if not events:
            return
        try:
            with self._engine.begin() as connection:
                self._check_unmoved(connection)
                for table, some in zip(self._tables, self._router.route(events), strict=True):
                    if some:
                        table.fold(connection, some)
                self._ledger.move(connection, events[-1].position, self._now())
        except BaseException:
            self._forget()
            raise
        self.position = events[-1].position
        self._seen = {name: seen._replace(position=self.position) for name, seen in self._seen.items()}

    def _check_unmoved(self, connection: Connection) -> None:
        found = self._ledger.read(connection)
        if found != self._seen:
            self._resume(found)
            raise CheckpointMoved(self.position)

    def _resume(self, checkpoints: dict[str, Checkpoint]) -> None:
        self._forget()
        self.position = common_position(checkpoints, self._projections)
        self._seen = checkpoints

    def _forget(self) -> None:
        for table in self._tables:
            table.forget()

    def _now(self) -> str:
        return rfc3339(self._clock.now())


class _CachedTable:
    """The rows of one table that were touched last, and the fold that touches them."""

    def __init__(self, store: TableStore, limit: int) -> None:
        self._store = store
        self._projection = store.projection
        self._limit = limit
        self._rows: dict[Key, Row | None] = {}

    def fold(self, connection: Connection, events: Sequence[Event]) -> None:
        if self._projection.append_only:
            self._store.insert(connection, append(self._projection, events))
            return
        pairs = keyed(self._projection, events)
        self._load(connection, pairs)
        changed = fold(self._projection, pairs, self._rows)
        self._store.write(connection, changed)
        self._trim(changed)

    def forget(self) -> None:
        self._rows.clear()

    def _load(self, connection: Connection, pairs: Sequence[Keyed]) -> None:
        missing = needed(self._projection, pairs, self._rows)
        if missing:
            self._rows.update(self._store.load(connection, missing))
        if self._projection.sweeps:
            self._load_swept(connection, pairs)

    def _load_swept(self, connection: Connection, pairs: Sequence[Keyed]) -> None:
        """All rows in SQL that a sweep in this batch could touch; those cached are newer."""
        sweeps = self._projection.sweeps
        for event in [event for _, event in pairs if type(event.fact) in sweeps]:
            for key, row in self._store.load_where(connection, sweeps[type(event.fact)].where(event)):
                self._rows.setdefault(key, row)

    def _trim(self, changed: dict[Key, Row | None]) -> None:
        """Keep what changed last; forget what changed longest ago."""
        rows = self._rows
        for key, row in changed.items():
            del rows[key]
            rows[key] = row
        for key in list(islice(rows, max(len(rows) - self._limit, 0))):
            del rows[key]


def _decoded(records: Sequence[Record], after: int) -> list[Event]:
    events = []
    for expected, record in enumerate(records, start=after + 1):
        if record.position != expected:
            raise JournalBroken(
                f"the journal goes on at position {record.position} where {expected} was expected",
                position=expected,
                remedy="Run `mesh audit verify`; restore the store from a backup if events are missing.",
            )
        try:
            events.append(decode(record))
        except (ValueError, LookupError) as error:
            raise JournalBroken(
                f"the event at position {record.position} cannot be read: {error}",
                position=record.position,
                remedy="Run `mesh audit verify`; it says whether the store was damaged.",
            ) from error
    return events
