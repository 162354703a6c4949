"""The tables, read asynchronously by connections that cannot write: not by mistake, and not on purpose."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable, Row, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mesh.clock import SystemClock
from mesh.errors import MeshError
from mesh.projections.database import DatabaseUnusable, parse_url, read_only

# What a statement may do: SELECT, read a column, call a function, recurse in a WITH.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_ALLOWED |= {sqlite3.SQLITE_TRANSACTION}
_READING_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "read_uncommitted"}


_TABLE_FUNCTIONS = ("json_each('[]')", "json_tree('[]')", "pragma_table_info('')")
_STEPS_PER_LOOK = 10_000
_REMEDY = "Give one SELECT; docs/tables.md lists the tables and their columns."


class QueryRefused(MeshError):
    """The statement is not one SELECT, does not parse, or takes too long."""

    exit_code = 65  # EX_DATAERR of sysexits.h

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy=remedy)


class ReadOnlyDatabase:
    """Opens ``url`` on `open`, and lets go on `close`."""

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._engine: AsyncEngine | None = None

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._url.get_backend_name()

    async def open(self) -> None:
        """Raises DatabaseMissing."""
        self._engine = _sqlite(self._url) if self._url.get_backend_name() == "sqlite" else _postgresql(self._url)

    async def close(self) -> None:
        """No-op when it is not open."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def fetch(self, statement: Executable) -> Sequence[Row[Any]]:
        """All rows of one of our own statements. Raises DatabaseUnusable."""
        assert self._engine is not None, "use it inside `async with`"
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(statement)).all()
        except DBAPIError as error:
            raise DatabaseUnusable(
                f"the tables at {self._url!r} cannot be read: {error.orig}",
                remedy="If the node never ran with this release, start it once: it makes and fills them.",
            ) from error

    async def ask(self, text: str, limit: int, timeout: float) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Columns and at most ``limit`` rows of a user's statement. Raises QueryRefused."""
        assert self._engine is not None, "use it inside `async with`"
        async with self._engine.connect() as connection:
            try:
                return await connection.run_sync(_first_rows, text, limit, timeout)
            except (DBAPIError, StatementError) as error:
                raise QueryRefused(*_reason(error, timeout)) from error


def _first_rows(
    connection: Connection, text: str, limit: int, timeout: float
) -> tuple[list[str], list[tuple[Any, ...]]]:
    with _stopping_after(connection, timeout):
        result = connection.execution_options(stream_results=True).exec_driver_sql(text)
        if not result.returns_rows:
            raise QueryRefused("the statement gives no rows", remedy=_REMEDY)
        try:
            return list(result.keys()), [tuple(row) for row in result.fetchmany(limit)]
        finally:
            result.close()


@contextmanager
def _stopping_after(connection: Connection, seconds: float) -> Iterator[None]:
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    driver.run_async(lambda raw: raw.set_progress_handler(lambda: clock.monotonic() > deadline, _STEPS_PER_LOOK))
    try:
        yield
    finally:
        driver.run_async(lambda raw: raw.set_progress_handler(None, 0))


def _reason(error: StatementError, timeout: float) -> tuple[str, str]:
    text = str(error.orig or error)
    if "interrupted" in text or "statement timeout" in text:
        return f"the statement ran for more than {timeout:g} s", "Narrow it: WHERE on a key or a time, or LIMIT."
    if "not authorized" in text or "readonly" in text or "read-only" in text:
        return f"the statement would do more than read: {text}", _REMEDY
    return f"the statement cannot be run: {text}", _REMEDY


def _sqlite(url: URL) -> AsyncEngine:
    engine = create_async_engine(read_only(url).set(drivername="sqlite+aiosqlite"))

    @event.listens_for(engine.sync_engine, "connect")
    def confine(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        connection.execute("PRAGMA busy_timeout=10000").close()
        connection.execute("PRAGMA query_only=ON").close()
        for function in _TABLE_FUNCTIONS:  # their first use in a connection declares a table
            connection.execute(f"SELECT 1 FROM {function}").close()  # noqa: S608 - a constant
        connection.run_async(lambda raw: raw.set_authorizer(_authorize))

    return engine


def _postgresql(url: URL) -> AsyncEngine:
    return create_async_engine(
        url, execution_options={"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    )


def _authorize(action: int, name: str | None, value: str | None, *_: object) -> int:
    """SQLite asks this of every part of a statement while it is prepared."""
    reads = action in _ALLOWED or (action == sqlite3.SQLITE_PRAGMA and name in _READING_PRAGMAS)
    del value
    return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY
