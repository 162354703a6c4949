"""Statements made into text once and run by the driver itself, with tuples, in SQLAlchemy's transaction.

For a batch of one event that is the larger part of the work: SQLAlchemy takes 20 µs or more around each statement. What
goes wrong is raised as the driver's own error.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
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


class Insertion:
    """An INSERT of one row of ``width`` values, run for many.

    SQLite gets as many rows with one statement as it takes parameters for: while it runs, Python's other threads do
    too, and after each they may keep this one waiting.
    """

    def __init__(self, sql: str, width: int, dialect: Dialect) -> None:
        self._sql = sql
        row = f"({', '.join('?' * width)})"
        sizes = [size for size in _ROWS_PER_INSERT if size * width <= _PARAMETERS and dialect.name == "sqlite"]
        self._many = {size: sql.replace(row, ", ".join([row] * size), 1) for size in sizes}

    def run(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert ``rows``, in order."""
        start = 0
        for size, sql in self._many.items():
            while len(rows) - start >= size:
                run(connection, sql, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
        if start < len(rows):
            run_each(connection, self._sql, rows[start:])


_ROWS_PER_INSERT = (512, 128, 32, 8)
_PARAMETERS = 32_766  # https://www.sqlite.org/limits.html#max_variable_number


def driver_of(connection: Connection) -> Any:  # noqa: ANN401 - sqlite3's or psycopg's connection: both have `execute`
    """What runs the statements; every one of the functions above asks for it first."""
    return connection.connection.driver_connection
