"""The read models: what they answer, and that nobody can write through them."""

import asyncio
import shutil
from pathlib import Path

import pytest

from benchmarks.events import History, records
from mesh.config import StorageConfig
from mesh.errors import ConfigError
from mesh.events.chain import genesis
from mesh.events.vocabulary.experts import ExpertExpired, ExpertRegistered
from mesh.home import Home
from mesh.projections import database
from mesh.projections.database import DatabaseMissing, DatabaseUnusable, database_url, parse_url, writer_engine
from mesh.projections.digest import live_digest
from mesh.projections.queries import NotYetProjected, Queries
from mesh.projections.read_only import QueryRefused
from mesh.projections.runner import Runner
from tests.kit.records import OTHER, OWNER, record_of
from tests.kit.tables import projected

JOURNAL = records(700, seed=4, peers=6, restarts=0.5)
KEEPER = History(seed=4, peers=6).owner


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of all but the last hundred events, of which each test gets a copy."""
    return projected(tmp_path_factory.mktemp("folded"), JOURNAL[:-100])


@pytest.fixture
def url(tmp_path: Path, folded: Path) -> str:
    (tmp_path / "with space").mkdir()
    shutil.copy(folded, tmp_path / "with space" / "state #1.sqlite")
    return f"sqlite:///{tmp_path}/with space/state #1.sqlite"


async def test_the_read_models_answer(url: str) -> None:
    async with Queries(url) as tables:
        assert [node["node"] for node in await tables.nodes()] == [KEEPER]
        peers = await tables.peers()
        assert len(peers) == 6
        assert {"peer", "state", "status", "latency_ms", "address", "transport", "last_seen_at"} <= set(peers[0])
        assert all(isinstance(peer["addresses"], list) for peer in peers)
        experts = await tables.experts()
        assert [expert["expert"] for expert in experts if expert["local"]]
        assert {"domains", "in_flight", "queued", "concurrency", "quality", "success_rate"} <= set(experts[0])
        health = await tables.health()
        assert {"target", "kind", "status", "score", "since_at", "latency_ms", "cpu_percent"} <= set(health[0])
        assert "recent" not in health[0]
        assert len(await tables.samples(peers[0]["peer"], 3)) == 3
        assert len(await tables.load()) > 3
        assert await tables.position() == 600


async def test_whose_tables_they_are_decides_whose_word_of_experts_counts(tmp_path: Path) -> None:
    registered = ExpertRegistered(
        expert="solver", backend="python", model="", domains=("mathematics",), concurrency=4, queue_limit=8, quality=0.5
    )
    expired = ExpertExpired(peer=OTHER, expert="solver", reason="the peer is not connected")
    told = [
        record_of(registered, 1, genesis(OWNER), origin=OTHER),  # as it was shared, before its node died
        record_of(expired, 2, genesis(OWNER)),
    ]
    url = f"sqlite:///{projected(tmp_path, told)}"
    async with Queries(url, node=OWNER) as tables:
        assert [(row["peer"], row["state"]) for row in await tables.experts()] == [(OTHER, "expired")]
    async with Queries(url) as tables:
        assert [row["node"] for row in await tables.experts()] == [OTHER, OWNER]


async def test_requests_come_newest_first_and_by_state(url: str) -> None:
    async with Queries(url) as tables:
        every = await tables.requests(1000)
        assert [row["received_at"] for row in every] == sorted((row["received_at"] for row in every), reverse=True)
        completed = await tables.requests(1000, "completed")
        assert {row["state"] for row in completed} == {"completed"}
        assert len(completed) == (await tables.counts())["requests"]["completed"]
        assert len(await tables.requests(2)) == 2


async def test_one_request_has_its_attempts_and_decisions_beside_it(url: str) -> None:
    async with Queries(url) as tables:
        (latest,) = await tables.requests(1, "completed")
        found = await tables.request(latest["request"])
        assert found is not None
        assert found["winners"] == latest["winners"]
        assert [attempt["attempt"] for attempt in found["attempts_made"]] == list(range(1, found["attempts"] + 1))
        assert len(found["decisions_made"]) == found["decisions"]
        assert found["decisions_made"][-1]["chosen"][0]["peer"] == found["peer"]
        assert await tables.request("no such") is None


async def test_open_alerts_and_their_history(url: str) -> None:
    async with Queries(url) as tables:
        open_ones = await tables.alerts(open_only=True)
        every = await tables.alerts()
        assert {alert["state"] for alert in open_ones} <= {"raised", "acknowledged"}
        assert len(every) >= len(open_ones)
        steps = await tables.alert_history(every[0]["alert"])
        assert steps[0]["step"] == "pending"
        assert isinstance(steps[0]["evidence"], dict)


async def test_sql_gives_columns_and_so_many_rows(url: str) -> None:
    async with Queries(url) as tables:
        columns, rows = await tables.sql("SELECT position, kind FROM health_samples ORDER BY position", 5)
        assert (columns, len(rows)) == (["position", "kind"], 5)
        assert await tables.sql("SELECT 1 AS one, ':x' AS colon, '50%' AS percent;") == (
            ["one", "colon", "percent"],
            [(1, ":x", "50%")],
        )
        columns, rows = await tables.sql("PRAGMA table_info(peers)")
        assert "name" in columns
        _, rows = await tables.sql("SELECT value FROM peers, json_each(peers.addresses) LIMIT 1")
        assert rows[0][0].startswith("/ip4/")
        _, rows = await tables.sql(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n", 10
        )
        assert len(rows) == 10


ATTACKS = [
    "DELETE FROM peers",
    "UPDATE peers SET state = 'down'",
    "INSERT INTO projection_checkpoints VALUES ('x', 1, 1, 0, '')",
    "REPLACE INTO projection_checkpoints VALUES ('peers', 1, 1, 0, '')",
    "WITH x AS (SELECT 1) DELETE FROM peers",
    "DELETE FROM peers RETURNING peer",
    "DROP TABLE peers",
    "ALTER TABLE peers ADD COLUMN x",
    "CREATE TABLE mine (x)",
    "CREATE TEMP TABLE mine (x)",
    "CREATE INDEX i ON peers (state)",
    "CREATE TRIGGER t AFTER INSERT ON peers BEGIN DELETE FROM peers; END",
    "VACUUM",
    "VACUUM INTO '{other}'",
    "ATTACH DATABASE '{other}' AS other",
    "ATTACH DATABASE 'file:{other}?mode=rwc' AS other",
    "DETACH DATABASE main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 7",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "REINDEX",
    "ANALYZE",
    "SELECT load_extension('{other}')",
    "SELECT 1; DELETE FROM peers",
    "SAVEPOINT s",
    "COMMIT",
    "BEGIN IMMEDIATE",
    "",
    "SELEC 1",
    "SELECT * FROM nowhere",
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_sql_cannot_write(url: str, attack: str, tmp_path: Path) -> None:
    before, other = live_digest(url), tmp_path / "other.sqlite"
    async with Queries(url) as tables:
        with pytest.raises(QueryRefused) as caught:
            await tables.sql(attack.format(other=other))
        assert "docs/tables.md" in caught.value.remedy
        assert await tables.sql("SELECT 1") == (["1"], [(1,)])
    assert live_digest(url) == before
    assert not other.exists()


async def test_sql_that_takes_too_long_is_stopped(url: str) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    async with Queries(url) as tables:
        with pytest.raises(QueryRefused, match=r"ran for more than 0\.2 s"):
            await tables.sql(endless, timeout=0.2)
        assert (await tables.sql("SELECT 1"))[1] == [(1,)]


async def test_waiting_for_a_position(url: str) -> None:
    async with Queries(url) as tables:
        assert await tables.wait_for(600) == 600
        with pytest.raises(NotYetProjected, match=r"the tables are at position 600, 601 was not reached within 0\.1 s"):
            await tables.wait_for(601, 0.1)
        waiting = asyncio.create_task(tables.wait_for(650, 20.0))
        await asyncio.sleep(0)
        engine = writer_engine(url)
        runner = Runner(engine)
        runner.open()
        runner.apply(JOURNAL[600:660])
        assert await waiting == 660
        engine.dispose()


async def test_the_tables_know_when_they_last_came_further(url: str) -> None:
    async with Queries(url) as tables:
        before = await tables.updated_at()
        engine = writer_engine(url)
        runner = Runner(engine)
        runner.open()
        runner.apply(JOURNAL[600:610])
        engine.dispose()
        assert before < await tables.updated_at()


async def test_a_node_that_never_ran_has_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match=r"there are no tables at .*state\.sqlite\. `mesh up` makes them"):
        async with Queries(f"sqlite:///{tmp_path}/state.sqlite"):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_a_database_without_tables_says_so(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").touch()
    async with Queries(f"sqlite:///{tmp_path}/state.sqlite") as tables:
        with pytest.raises(DatabaseUnusable, match="no such table"):
            await tables.peers()


def test_where_the_tables_are(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert database_url(home, StorageConfig()) == f"sqlite:///{tmp_path}/state.sqlite"
    assert database_url(home, StorageConfig(url="postgresql://h/db")) == "postgresql://h/db"
    for wrong in ("mysql://h/db", "not a url"):
        with pytest.raises(ConfigError, match=r"storage\.url = .*Use sqlite:///path or postgresql://"):
            parse_url(wrong)


def test_a_driver_that_is_missing_is_named_and_no_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'synaptic-mesh\[postgres\]'") as caught:
        parse_url("postgresql://me:secret@h/db")
    assert "secret" not in str(caught.value)
    monkeypatch.setattr(database, "find_spec", lambda _name: object())
    assert parse_url("postgresql://me@h/db").drivername == "postgresql+psycopg"
