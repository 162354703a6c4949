"""The one door to the database: SQLite beside the journal by default, PostgreSQL by URL."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from mesh.config import StorageConfig
from mesh.errors import ConfigError, MeshError
from mesh.home import Home

# A rebuild that swaps large tables in keeps everybody else from writing for as long as it takes.
_BUSY_TIMEOUT_MS = 300_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
    "PRAGMA wal_autocheckpoint=16000",
)
# sqlite3 takes anything but int, float and str the long way through its table of adapters, 0.5 µs for each NULL.
sqlite3.register_adapter(NoneType, cast("Callable[[None], None]", {}.get))
sqlite3.register_adapter(bool, int)
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


class DatabaseMissing(MeshError):
    """The tables were never made: no node has run here."""

    exit_code = 66  # EX_NOINPUT of sysexits.h


class DatabaseUnusable(MeshError):
    """The tables' database cannot be opened, is damaged, or belongs to a newer release."""

    exit_code = 74  # EX_IOERR of sysexits.h


def database_url(home: Home, storage: StorageConfig) -> str:
    """Where the node's tables are: what the config says, or ``state.sqlite`` in its home."""
    return storage.url or f"sqlite:///{home.database}"


def parse_url(url: str) -> URL:
    """The URL with the driver that we use. Raises ConfigError for a database that we do not know."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"storage.url = {url!r} is not a database URL: {error}", remedy=_URL_REMEDY) from error
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise ConfigError(f"storage.url = {url!r} names a database that is not supported", remedy=_URL_REMEDY)
    if driver != "sqlite" and find_spec("psycopg") is None:
        raise ConfigError(
            f"storage.url = {parsed!r} needs the PostgreSQL driver, which is not installed",
            remedy="Install it: pip install 'synaptic-mesh[postgres]'.",
        )
    return parsed.set(drivername=driver)


_URL_REMEDY = "Use sqlite:///path or postgresql://user@host/database, or leave it empty."


def writer_engine(url: str) -> Engine:
    """An engine whose every transaction has the right to write from its first statement on."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, paramstyle="format")
    return _sqlite_engine(parsed, pragmas=_PRAGMAS, begin="BEGIN IMMEDIATE")


def reader_engine(url: str) -> Engine:
    """An engine that cannot write, and whose every transaction sees one state. Raises DatabaseMissing."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        options = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
        return create_engine(parsed, execution_options=options)
    return _sqlite_engine(read_only(parsed), pragmas=("PRAGMA query_only=ON",), begin="BEGIN")


def read_only(url: URL) -> URL:
    """The URL of a SQLite file that is opened without the right to write. Raises DatabaseMissing."""
    path = Path(url.database or "")
    if not path.is_file():
        raise DatabaseMissing(
            f"there are no tables at {path}", remedy="`mesh up` makes them; a node needs `mesh init` first."
        )
    return url.set(database=f"file:{quote(str(path.absolute()))}").update_query_dict({"mode": "ro", "uri": "true"})


def _sqlite_engine(url: URL, *, pragmas: Sequence[str], begin: str) -> Engine:
    engine = create_engine(url, connect_args={"isolation_level": None, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        for pragma in pragmas:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        cast("sqlite3.Connection", connection.connection.driver_connection).execute(begin)

    return engine


def driver_error(dialect: Dialect) -> type[Exception]:
    """What the driver itself raises for whatever goes wrong in the database."""
    return dialect.loaded_dbapi.Error


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn what the database raises into DatabaseUnusable, which says what to do."""
    try:
        yield
    except (DBAPIError, driver_error(engine.dialect)) as error:
        raise DatabaseUnusable(
            f"the tables' database {engine.url!r} cannot be used: {getattr(error, 'orig', error)}",
            remedy="Check its path, its permissions and the free space; "
            "if it is damaged, move it away: it is rebuilt from the journal.",
        ) from error
