"""The migrations give exactly the tables that the code works with, from nothing and from any revision."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from mesh.projections.database import DatabaseUnusable, writer_engine
from mesh.projections.migrate import alembic_config, head_revision, migrate
from mesh.projections.tables import METADATA

ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(tmp_path: Path):
    engine = writer_engine(f"sqlite:///{tmp_path}/state.sqlite")
    yield engine
    engine.dispose()


def test_nothing_is_left_to_migrate(engine: Engine) -> None:
    migrate(engine)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def schema(engine: Engine) -> dict:
    found = inspect(engine)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)],
            found.get_pk_constraint(name),
            sorted((index["name"], tuple(index["column_names"])) for index in found.get_indexes(name)),
        )
        for name in found.get_table_names()
        if name != "alembic_version"
    }


def test_migrated_and_made_at_once_are_the_same(engine: Engine, tmp_path: Path) -> None:
    migrate(engine)
    made = writer_engine(f"sqlite:///{tmp_path}/made.sqlite")
    METADATA.create_all(made)
    assert schema(engine) == schema(made)
    made.dispose()


def test_down_and_up_again(engine: Engine) -> None:
    migrate(engine)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert schema(engine) == {}
    migrate(engine)
    assert set(schema(engine)) == set(METADATA.tables)


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == head_revision()


def test_a_database_of_a_newer_release_is_left_alone(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnusable, match=r"schema that this release does not know.*rebuilt from the journal"):
        migrate(engine)


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"\0" * 8192])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(content)
    engine = writer_engine(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnusable, match=r"state\.sqlite.*cannot be used.*move it away"):
        migrate(engine)
    engine.dispose()


def test_revisions_are_one_line_of_descent() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    assert len(script.get_heads()) == 1
    assert [revision.revision for revision in script.walk_revisions()][-1] == "0001"


def test_the_command_line_of_alembic_works_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cli.sqlite"
    for arguments in (["upgrade", "head"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "-x", f"url={url}", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "No new upgrade operations detected" in done.stdout
