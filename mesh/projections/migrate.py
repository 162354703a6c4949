"""Brings a database to the schema of this release. Only the schema: rows are rebuilt, never migrated."""

import threading
from importlib.util import find_spec

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine

from mesh.projections.database import DatabaseUnusable, explained

_one_at_a_time = threading.Lock()  # Alembic's context is one for the process


def alembic_config() -> Config:
    """Alembic's settings for the migrations of this installation."""
    package = find_spec("migrations")
    assert package is not None, "the package `migrations` is installed beside `mesh`"
    assert package.submodule_search_locations is not None
    config = Config()
    config.set_main_option("script_location", next(iter(package.submodule_search_locations)))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str | None:
    """The newest revision of the schema."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def migrate(engine: Engine) -> None:
    """Upgrade to the newest revision, in one transaction. Raises DatabaseUnusable."""
    config = alembic_config()
    with explained(engine), engine.begin() as connection, _one_at_a_time:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseUnusable(
                f"the tables in {engine.url!r} have a schema that this release does not know: {error}",
                remedy="Use the release that wrote them, or move the database away: it is rebuilt from the journal.",
            ) from error
