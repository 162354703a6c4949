"""Statements made into text once and run by the driver itself, with tuples, in SQLAlchemy's transaction.

For a batch of one event that is the larger part of the work: SQLAlchemy takes 20 µs or more around each statement. What
goes wrong is raised as the driver's own error.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect


def compiled(
    statement: Select[tuple[object, ...]] | Insert | Update | Delete, dialect: Dialect, parameters: Iterable[str]
) -> str:
    """SQL that takes the values of ``parameters``, in that order."""
    names = list(parameters)
    made = statement.compile(dialect=dialect, column_keys=names if isinstance(statement, Insert) else None)
    assert (made.positiontup or []) == names, f"{made.positiontup} are not the parameters {names}"
    return str(made)


def fetch(connection: Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    found: list[tuple[Any, ...]] = driver_of(connection).execute(sql, values).fetchall()
    return found


def run(connection: Connection, sql: str, values: Sequence[Any]) -> None:
    """Run a statement once."""
    driver_of(connection).execute(sql, values)


def run_each(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement for each of ``rows``."""
    driver_of(connection).cursor().executemany(sql, rows)


def driver_of(connection: Connection) -> Any:  # noqa: ANN401 - sqlite3's or psycopg's connection: both have `execute`
    """What runs the statements; every one of the functions above asks for it first."""
    return connection.connection.driver_connection
