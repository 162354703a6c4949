"""The same tables on PostgreSQL: a server of our own where one is installed, or that of POSTGRES_TEST_URL.

POSTGRES_TEST_URL names an empty database that may be written to.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, text

from benchmarks.events import records
from mesh.events.codec import encode
from mesh.events.vocabulary.network import PeerIdentified
from mesh.projections.database import writer_engine
from mesh.projections.digest import live_digest
from mesh.projections.migrate import alembic_config, migrate
from mesh.projections.queries import Queries
from mesh.projections.read_only import QueryRefused
from mesh.projections.rebuild import rebuild, verify_rebuild
from mesh.projections.runner import CheckpointMoved, Runner
from tests.kit.postgresql import own_server, programs
from tests.kit.tables import ListReader, digest_of, empty_tables, event

pytestmark = pytest.mark.xdist_group("postgresql")
JOURNAL = records(900, seed=4, peers=6, restarts=0.5)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if given := os.environ.get("POSTGRES_TEST_URL"):
        yield given
        return
    installed = programs()
    if installed is None:
        pytest.skip("no PostgreSQL is installed, and POSTGRES_TEST_URL is not set")
    with own_server(installed) as own:
        yield own


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = writer_engine(url)
    migrate(engine)
    yield engine
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.execute(text("DROP TABLE alembic_version"))
    engine.dispose()


def opened(engine: Engine) -> Runner:
    runner = Runner(engine)
    runner.open()
    return runner


def test_both_databases_have_one_digest(url: str, engine: Engine, tmp_path: Path) -> None:
    runner = opened(engine)
    for start in range(0, 600, 70):
        runner.apply(JOURNAL[start : min(start + 70, 600)])
    with empty_tables(tmp_path) as other:
        opened(other).apply(JOURNAL[:600])
        assert live_digest(url) == digest_of(other)


def test_nothing_is_left_to_migrate(engine: Engine) -> None:
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)


async def test_rebuilt_equals_live_and_the_projector_goes_on(url: str, engine: Engine) -> None:
    runner = opened(engine)
    runner.apply(JOURNAL[:600])
    with engine.begin() as connection:
        connection.execute(text("UPDATE requests SET state = 'completed'"))
    assert (await verify_rebuild(url, ListReader(JOURNAL))).differing == ("requests",)
    await rebuild(url, ListReader(JOURNAL[:700]))
    with pytest.raises(CheckpointMoved):
        runner.apply(JOURNAL[600:])
    runner.apply(JOURNAL[700:])
    assert (await verify_rebuild(url, ListReader(JOURNAL))).identical


def test_text_that_it_refuses_is_cut_to_size(engine: Engine) -> None:
    nul = PeerIdentified(peer="p", agent="a\0b", protocols=(), addresses=())
    opened(engine).apply([encode(event(nul))])
    with engine.begin() as connection:
        assert connection.execute(text("SELECT agent FROM peers")).scalar_one() == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM peers",
        "SELECT 1; COMMIT; DELETE FROM peers",
        "WITH x AS (DELETE FROM peers RETURNING peer) SELECT * FROM x",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "CREATE TABLE mine (x int)",
        "SELECT pg_sleep(60)",
    ],
)
async def test_sql_cannot_write(url: str, engine: Engine, attack: str) -> None:
    opened(engine).apply(JOURNAL[:300])
    before = live_digest(url)
    async with Queries(url) as tables:
        known = await tables.peers()
        with pytest.raises(QueryRefused):
            await tables.sql(attack, timeout=0.5)
        assert known == await tables.peers() != []
    assert live_digest(url) == before
