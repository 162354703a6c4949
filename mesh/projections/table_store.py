"""Rows of one table in SQL: read by key, written by key, as tuples, in statements made once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection, Table, bindparam, delete, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from mesh.projections.compiled import compiled, fetch, run_each
from mesh.projections.database import driver_error
from mesh.projections.projection import Key, Projection, Row
from mesh.projections.tables import columns_of

# A SELECT is padded to the next of these, by asking for one key several times.
_KEYS_PER_SELECT = (1, 8, 64, 500)
_EMPTY: dict[type, str] = {tuple: "[]", dict: "{}"}
_to_json = msgspec.json.Encoder().encode
_INT64 = 2**63 - 1


class TableStore:
    """Loads and writes the rows of ``projection``."""

    def __init__(self, projection: Projection[Any], table: Table, dialect: Dialect) -> None:
        self.projection = projection
        self._table = table
        self._is_strict = dialect.name != "sqlite"
        self._json = tuple(
            (index, msgspec.json.Decoder(spec.python).decode)
            for index, spec in enumerate(columns_of(projection.row))
            if spec.is_json
        )
        self._dialect = dialect
        self._key_columns = [table.c[name] for name in projection.key]
        self._insert = compiled(insert(table), dialect, table.c.keys())
        self._upsert = compiled(_upsert(table, dialect), dialect, table.c.keys())
        matches = [column == bindparam(column.name) for column in self._key_columns]
        self._delete = compiled(delete(table).where(*matches), dialect, projection.key)
        self._selects: dict[int, str] = {}

    def load(self, connection: Connection, keys: Iterable[Key]) -> dict[Key, Row | None]:
        """The rows of ``keys``; None for those that have none."""
        rows: dict[Key, Row | None] = dict.fromkeys(keys)
        wanted = list(rows)
        for start in range(0, len(wanted), _KEYS_PER_SELECT[-1]):
            some = wanted[start : start + _KEYS_PER_SELECT[-1]]
            size = next(size for size in _KEYS_PER_SELECT if size >= len(some))
            values = tuple(chain.from_iterable(some)) + some[-1] * (size - len(some))
            for found in fetch(connection, self._select(size), values):
                row = self._row(found)
                rows[self.key(row)] = row
        return rows

    def _select(self, size: int) -> str:
        """SELECT by ``size`` keys: its text is made once, when first needed, and its plan kept by the driver."""
        if size not in self._selects:
            names = [[f"{name}_{number}" for name in self.projection.key] for number in range(size)]
            wanted = [tuple_(*map(bindparam, some)) for some in names]
            statement = select(self._table).where(tuple_(*self._key_columns).in_(wanted))
            self._selects[size] = compiled(statement, self._dialect, chain.from_iterable(names))
        return self._selects[size]

    def load_where(self, connection: Connection, where: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[Key, Row]]:
        """The rows whose columns have one of the values that ``where`` allows them."""
        conditions = [self._table.c[name].in_(values) for name, values in where.items()]
        for values in connection.execute(select(self._table).where(*conditions)):
            row = self._row(values)
            yield self.key(row), row

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows that are new."""
        if rows:
            self._execute(connection, self._insert, self._all_values(rows))

    def write(self, connection: Connection, changed: Mapping[Key, Row | None]) -> None:
        """Write rows, new or not, and delete those that are None."""
        upserts = self._all_values([row for row in changed.values() if row is not None])
        if upserts:
            self._execute(connection, self._upsert, upserts)
        if len(upserts) < len(changed):
            run_each(connection, self._delete, [key for key, row in changed.items() if row is None])

    def key(self, row: Row) -> Key:
        """The row's key."""
        return tuple(getattr(row, name) for name in self.projection.key)

    def _execute(self, connection: Connection, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Run ``sql`` for each row. Values that no column can hold (strangers may send them) are cut to size."""
        if self._is_strict:
            run_each(connection, sql, _all_fitting(rows))
            return
        try:
            run_each(connection, sql, rows)
        except (OverflowError, driver_error(connection.dialect)):
            run_each(connection, self._upsert, _all_fitting(rows))  # those before the bad one are in already

    def _row(self, values: Sequence[Any]) -> Row:
        fields = list(values)
        for index, decode in self._json:
            fields[index] = decode(fields[index])
        row: Row = self.projection.row(**dict(zip(self._table.c.keys(), fields, strict=True)))
        return row

    def _all_values(self, rows: Iterable[Row]) -> list[tuple[Any, ...]]:
        finish = self.projection.finish
        tuples = map(astuple, rows if finish is None else map(finish, rows))
        return list(map(self._with_json, tuples) if self._json else tuples)

    def _with_json(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        fields = list(values)
        for index, _ in self._json:
            value = fields[index]
            fields[index] = _to_json(value).decode() if value else _EMPTY[type(value)]
        return tuple(fields)


def _upsert(table: Table, dialect: Dialect) -> Any:  # noqa: ANN401 - either dialect's insert
    make = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    statement = make(table)
    changes = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes)


def _all_fitting(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_fitting, row)) for row in rows]


def _fitting(value: Any) -> Any:  # noqa: ANN401 - any column's
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_INT64, min(value, _INT64))
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value
