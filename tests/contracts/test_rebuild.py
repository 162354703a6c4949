"""Rebuilding beside the live tables: what readers see, what a running projector does, what is found out."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from benchmarks.events import records
from mesh.errors import JournalBroken
from mesh.events.envelope import Record
from mesh.projections import rebuild as module
from mesh.projections.database import writer_engine
from mesh.projections.digest import live_digest
from mesh.projections.migrate import migrate
from mesh.projections.rebuild import rebuild, rebuild_stale, verify_rebuild
from mesh.projections.runner import CheckpointMoved, Runner
from mesh.projections.scratch import Scratch
from mesh.projections.tables import CHECKPOINTS
from tests.kit.tables import ListReader, digest_of, projected

JOURNAL = records(600, seed=9, peers=5, restarts=1.0)


class Live:
    """A migrated database that a projector has folded up to a position, and goes on with."""

    def __init__(self, file: Path) -> None:
        self.url = f"sqlite:///{file}"
        self.engine: Engine = writer_engine(self.url)
        self.runner = Runner(self.engine)
        self.runner.open()

    def run(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement))


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the first 400 events, of which each test gets a copy."""
    return projected(tmp_path_factory.mktemp("folded"), JOURNAL[:400])


@pytest.fixture
def live(tmp_path: Path, folded: Path):
    live = Live(shutil.copy(folded, tmp_path))
    yield live
    live.engine.dispose()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".rebuild")] == []


async def test_what_somebody_wrote_into_the_tables_is_found_and_undone(live: Live) -> None:
    reader = ListReader(JOURNAL)
    assert (await verify_rebuild(live.url, reader)).identical
    live.run("UPDATE requests SET state = 'completed', last_position = 1")
    live.run("DELETE FROM alert_history")
    found = await verify_rebuild(live.url, reader)
    assert not found.identical
    assert set(found.differing) == {"requests", "alert_history"}
    made = await rebuild(live.url, reader)
    assert made == live_digest(live.url)
    assert made.position == 600
    assert (await verify_rebuild(live.url, reader)).identical


async def test_verifying_compares_at_the_position_of_the_live_tables(live: Live) -> None:
    found = await verify_rebuild(live.url, ListReader(JOURNAL))
    assert (found.live.position, found.rebuilt.position, found.differing) == (400, 400, ())


async def test_the_projector_goes_on_after_a_swap(live: Live) -> None:
    await rebuild(live.url, ListReader(JOURNAL[:500]))
    with pytest.raises(CheckpointMoved):
        live.runner.apply(JOURNAL[400:500])
    assert live.runner.position == 500
    live.runner.apply(JOURNAL[500:])
    assert (await verify_rebuild(live.url, ListReader(JOURNAL))).identical


async def test_tables_can_be_made_as_they_were(live: Live, tmp_path: Path) -> None:
    made = await rebuild(live.url, ListReader(JOURNAL), up_to=150)
    (tmp_path / "then").mkdir()
    then = Live(projected(tmp_path / "then", JOURNAL[:150]))
    assert made == digest_of(then.engine) == live_digest(live.url)
    then.engine.dispose()


class Advancing(ListReader):
    """While the journal is read to its end for a rebuild, the live tables move on."""

    def __init__(self, live: Live, steps: list[int]) -> None:
        super().__init__(JOURNAL[: live.runner.position])
        self._live = live
        self._steps = steps

    async def read(self, first: int = 1, last: int | None = None):
        async for batch in super().read(first, last):
            yield batch
        if self._steps and last is None:
            upto = self._steps.pop(0)
            self._live.runner.apply(JOURNAL[self._live.runner.position : upto])
            self.records = JOURNAL[:upto]


@pytest.mark.parametrize("last_stretch", [0, 30, 5000])
async def test_live_tables_that_move_on_meanwhile_are_caught_up_with(
    live: Live, last_stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST_STRETCH", last_stretch)
    made = await rebuild(live.url, Advancing(live, [460, 520, 540]))
    assert made.position == live_digest(live.url).position
    with pytest.raises(CheckpointMoved):
        live.runner.apply(JOURNAL[live.runner.position :])
    live.runner.apply(JOURNAL[live.runner.position :])
    assert (await verify_rebuild(live.url, ListReader(JOURNAL))).identical


async def test_a_rebuild_that_waits_for_a_writer_holds_nothing_else_up(live: Live) -> None:
    with live.engine.begin():
        rebuilding = asyncio.create_task(rebuild(live.url, ListReader(JOURNAL)))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not rebuilding.done()
    assert (await rebuilding).position == 600


async def test_readers_see_the_old_rows_or_the_new_and_never_a_gap(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = sqlite3.connect(tmp_path / "state.sqlite")
    seen: list[int] = []
    copy_into = Scratch.copy_into

    def look(*arguments: object) -> None:
        seen.append(reader.execute("SELECT count(*) FROM requests").fetchone()[0])
        copy_into(*arguments)  # type: ignore[arg-type]
        seen.append(reader.execute("SELECT count(*) FROM requests").fetchone()[0])

    monkeypatch.setattr(Scratch, "copy_into", look)
    await rebuild(live.url, ListReader(JOURNAL), up_to=10)
    seen.append(reader.execute("SELECT count(*) FROM requests").fetchone()[0])
    reader.close()
    assert seen[0] == seen[1] > seen[2]


async def test_a_rebuild_that_fails_leaves_the_live_tables_as_they_were(live: Live) -> None:
    before = live_digest(live.url)
    broken = [*JOURNAL[:300], Record(301, b"", "", "", b"{}"), *JOURNAL[301:]]
    with pytest.raises(JournalBroken, match="position 301"):
        await rebuild(live.url, ListReader(broken))
    assert live_digest(live.url) == before
    live.runner.apply(JOURNAL[400:])


async def test_a_journal_that_is_shorter_than_the_tables_is_reported(live: Live) -> None:
    with pytest.raises(JournalBroken, match="the journal ends at position 350, the tables know events up to 400"):
        await verify_rebuild(live.url, ListReader(JOURNAL[:350]))


async def test_only_the_tables_of_another_version_are_rebuilt_and_to_the_position_of_the_rest(live: Live) -> None:
    live.run("DELETE FROM peers")
    live.run(f"UPDATE {CHECKPOINTS} SET version = 0 WHERE name = 'peers'")
    live.run(f"DELETE FROM {CHECKPOINTS} WHERE name = 'served'")
    live.run("DELETE FROM served")
    reader = ListReader(JOURNAL)
    assert set(await rebuild_stale(live.url, reader)) == {"peers", "served"}
    assert await rebuild_stale(live.url, reader) == ()
    with live.engine.begin() as connection:
        rebuilt = connection.execute(text(f"SELECT name, rebuilds FROM {CHECKPOINTS} WHERE rebuilds > 0")).all()
    assert {tuple(row) for row in rebuilt} == {("peers", 1), ("served", 1)}
    assert live_digest(live.url).position == 400
    assert (await verify_rebuild(live.url, reader)).identical


async def test_a_new_database_has_nothing_stale(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.sqlite"
    engine = writer_engine(url)
    migrate(engine)
    engine.dispose()
    assert await rebuild_stale(url, ListReader(JOURNAL)) == ()


async def test_what_a_killed_rebuild_left_is_removed_by_the_next(live: Live, tmp_path: Path) -> None:
    left = tmp_path / ".rebuild-999999999-x"
    left.mkdir()
    (left / "tables.sqlite").write_bytes(b"half")
    await rebuild(live.url, ListReader(JOURNAL))
    assert not left.exists()
