"""Law 5: whatever the batches, crashes and restarts on the way, the tables are those of one straight replay."""

from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.dialects import sqlite

from benchmarks.events import records
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.vocabulary.node import NodeStarted
from mesh.projections import compiled
from mesh.projections.compiled import driver_of
from mesh.projections.digest import Digest, digest_of_rows
from mesh.projections.fold import Router, append, fold, keyed
from mesh.projections.folds import PROJECTIONS
from mesh.projections.runner import Runner
from mesh.projections.table_store import TableStore
from mesh.projections.tables import METADATA
from tests.kit.tables import digest_of, empty_tables

EVENTS = 300


@cache
def history(seed: int) -> list[Record]:
    return records(EVENTS, seed, peers=5, restarts=1.5)


@cache
def straight(seed: int) -> Digest:
    """All in one batch."""
    with TemporaryDirectory() as directory, empty_tables(Path(directory)) as engine:
        runner = Runner(engine)
        runner.open()
        runner.apply(history(seed))
        return digest_of(engine)


def apply_all(runner: Runner, journal: list[Record], size: int) -> None:
    for start in range(0, len(journal), size):
        runner.apply(journal[start : start + size])


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 3),
    sizes=st.lists(st.integers(1, 100), min_size=4, max_size=12),
    crashes=st.sets(st.integers(0, 60)),
    cached_rows=st.sampled_from([1, 3, 20_000]),
)
def test_any_batches_crashes_and_caches_give_the_same_tables(
    seed: int, sizes: list[int], crashes: set[int], cached_rows: int
) -> None:
    journal = history(seed)
    with TemporaryDirectory() as directory, empty_tables(Path(directory)) as engine:
        runner = Runner(engine, cached_rows=cached_rows)
        runner.open()
        step = 0
        while runner.position < EVENTS:
            size = sizes[step % len(sizes)]
            if step in crashes:
                runner = Runner(engine, cached_rows=cached_rows)
                runner.open()
            runner.apply(journal[runner.position : runner.position + size])
            step += 1
        assert digest_of(engine) == straight(seed)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 3), fail_at=st.integers(0, EVENTS - 1), size=st.integers(1, 200))
def test_a_batch_that_fails_half_way_leaves_nothing_behind(seed: int, fail_at: int, size: int) -> None:
    journal = list(history(seed))
    broken = journal.copy()
    broken[fail_at] = Record(fail_at + 1, b"", "", "", b"not an event")
    with TemporaryDirectory() as directory, empty_tables(Path(directory)) as engine:
        runner = Runner(engine)
        runner.open()
        with pytest.raises(Exception, match=f"position {fail_at + 1} cannot be read"):
            apply_all(runner, broken, size)
        assert runner.position == (fail_at // size) * size
        runner.apply(journal[runner.position :])
        assert digest_of(engine) == straight(seed)


class Crashed(Exception):
    """What a crash looks like from inside."""


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 3), size=st.integers(60, 150), crashes=st.sets(st.integers(0, 120), min_size=1, max_size=6))
def test_a_crash_before_any_statement_loses_and_doubles_nothing(seed: int, size: int, crashes: set[int]) -> None:
    statements = count()

    def crash(*_: object) -> None:
        if next(statements) in crashes:
            raise Crashed

    journal = history(seed)
    with TemporaryDirectory() as directory, empty_tables(Path(directory)) as engine:
        event.listen(engine, "before_cursor_execute", crash)
        event.listen(engine, "commit", crash)
        position = 0
        with patch.object(compiled, "driver_of", lambda connection: crash() or driver_of(connection)):
            while position < EVENTS:
                with suppress(Crashed):
                    runner = Runner(engine)
                    position = runner.open()
                    while position < EVENTS:
                        runner.apply(journal[position : position + size])
                        position = runner.position
        event.remove(engine, "before_cursor_execute", crash)
        event.remove(engine, "commit", crash)
        assert digest_of(engine) == straight(seed)


@pytest.mark.parametrize("seed", range(4))
def test_sql_holds_exactly_what_the_pure_folds_give(seed: int) -> None:
    routed = Router(PROJECTIONS).route(decode(record) for record in history(seed))
    for projection, events in zip(PROJECTIONS, routed, strict=True):
        store = TableStore(projection, METADATA.tables[projection.name], sqlite.dialect(paramstyle="qmark"))
        if projection.append_only:
            rows = {store.key(row): row for row in append(projection, events)}
        else:
            known: dict = {}
            fold(projection, keyed(projection, events), known)
            rows = {key: row for key, row in known.items() if row is not None}
        values = store._all_values([rows[key] for key in sorted(rows)])
        assert digest_of_rows(values) == straight(seed).tables[projection.name], projection.name


@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_kept_under_the_key_of_its_events(seed: int) -> None:
    routed = Router(PROJECTIONS).route(decode(record) for record in history(seed))
    for projection, events in zip(PROJECTIONS, routed, strict=True):
        rows: dict = {}
        if not projection.append_only:
            fold(projection, keyed(projection, events), rows)
        for key, row in rows.items():
            assert tuple(getattr(row, name) for name in projection.key) == key


def test_the_history_touches_every_table() -> None:
    """Otherwise the laws above prove nothing about it."""
    empty = digest_of_rows([])
    assert [name for name, value in straight(0).tables.items() if value == empty] == []
    facts = [decode(record).fact for record in history(0)]
    assert sum(isinstance(fact, NodeStarted) for fact in facts) >= 3
