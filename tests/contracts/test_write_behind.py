"""Commits in a thread: what fails there is raised here, and only what was committed counts."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Engine, text

from benchmarks.events import records
from mesh.projections.database import writer_engine
from mesh.projections.digest import Digest
from mesh.projections.runner import CheckpointMoved, Runner
from mesh.projections.write_behind import write_behind
from tests.kit.tables import apply_behind, digest_of, empty_tables

JOURNAL = records(120, 1, peers=5)


@pytest.fixture
def engine(tmp_path: Path):
    with empty_tables(tmp_path) as engine:
        yield engine


@pytest.fixture
def runner(engine: Engine) -> Runner:
    runner = Runner(engine)
    runner.open()
    return runner


def straight_digest() -> Digest:
    with TemporaryDirectory() as directory, empty_tables(Path(directory)) as engine:
        runner = Runner(engine)
        runner.open()
        runner.apply(JOURNAL)
        return digest_of(engine)


def change(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_a_batch_is_committed_while_the_next_is_folded(
    engine: Engine, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch is folded before the first is there: a lock that only this test lets go of keeps it away."""
    folded: list[int] = []
    fold = runner.fold

    def fold_and_note(*arguments: Any) -> Any:
        batch = fold(*arguments)
        folded.append(batch.position)
        if len(folded) == 2:
            assert runner.position == 0
            lock.rollback()
        return batch

    monkeypatch.setattr(runner, "fold", fold_and_note)
    other = writer_engine(str(engine.url))
    with other.connect() as connection, connection.begin() as lock, write_behind(runner) as writer:
        writer.apply(JOURNAL[:40])
        writer.apply(JOURNAL[40:80])
    other.dispose()
    assert (folded, runner.position) == ([40, 80], 80)


def test_a_commit_that_fails_is_raised_and_nothing_after_it_is_written(engine: Engine, runner: Runner) -> None:
    runner.apply(JOURNAL[:40])
    change(engine, "CREATE TRIGGER full BEFORE UPDATE ON projection_checkpoints BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(Exception, match="full"):
        apply_behind(runner, JOURNAL[40:], 40)
    assert runner.position == 40
    change(engine, "DROP TRIGGER full")
    apply_behind(runner, JOURNAL[40:], 40)
    assert digest_of(engine) == straight_digest()


def test_tables_that_somebody_else_moved_are_noticed(engine: Engine, runner: Runner) -> None:
    other = Runner(engine)
    other.open()
    other.apply(JOURNAL[:90])
    with pytest.raises(CheckpointMoved) as moved:
        apply_behind(runner, JOURNAL[:80], 40)
    assert moved.value.position == runner.position == 90
    apply_behind(runner, JOURNAL[90:], 40)
    assert digest_of(engine) == straight_digest()
