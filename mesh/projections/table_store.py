"""Rows of one table in SQL: read by key, written by key, as tuples, in statements made once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Connection, Table, bindparam, delete, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import StatementError

from mesh.projections.projection import Key, Projection, Row
from mesh.projections.tables import columns_of

_KEYS_PER_SELECT = 500
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
        self._key_columns = [table.c[name] for name in projection.key]
        self._insert = _compiled(insert(table), dialect, table.c.keys())
        self._upsert = _compiled(_upsert(table, dialect), dialect, table.c.keys())
        matches = [column == bindparam(column.name) for column in self._key_columns]
        self._delete = _compiled(delete(table).where(*matches), dialect, projection.key)
        keys: BindParameter[Any] = bindparam("keys", expanding=True)
        self._select = select(table).where(tuple_(*self._key_columns).in_(keys))

    def load(self, connection: Connection, keys: Iterable[Key]) -> dict[Key, Row | None]:
        """The rows of ``keys``; None for those that have none."""
        rows: dict[Key, Row | None] = dict.fromkeys(keys)
        for some in _chunks(iter(rows), _KEYS_PER_SELECT):
            for values in connection.execute(self._select, {"keys": some}):
                row = self._row(values)
                rows[self.key(row)] = row
        return rows

    def load_where(self, connection: Connection, where: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[Key, Row]]:
        """The rows whose columns have one of the values that ``where`` allows them."""
        conditions = [self._table.c[name].in_(values) for name, values in where.items()]
        for values in connection.execute(select(self._table).where(*conditions)):
            row = self._row(values)
            yield self.key(row), row

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows that are new."""
        if rows:
            self._execute(connection, self._insert, [self._values(row) for row in rows])

    def write(self, connection: Connection, changed: Mapping[Key, Row | None]) -> None:
        """Write rows, new or not, and delete those that are None."""
        upserts = [self._values(row) for row in changed.values() if row is not None]
        if upserts:
            self._execute(connection, self._upsert, upserts)
        if len(upserts) < len(changed):
            connection.exec_driver_sql(self._delete, [key for key, row in changed.items() if row is None])

    def key(self, row: Row) -> Key:
        """The row's key."""
        return tuple(getattr(row, name) for name in self.projection.key)

    def _execute(self, connection: Connection, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Run ``sql`` for each row. Values that no column can hold (strangers may send them) are cut to size."""
        if self._is_strict:
            connection.exec_driver_sql(sql, _all_fitting(rows))
            return
        try:
            connection.exec_driver_sql(sql, rows)
        except (OverflowError, StatementError):
            connection.exec_driver_sql(self._upsert, _all_fitting(rows))  # those before the bad one are in already

    def _row(self, values: Sequence[Any]) -> Row:
        fields = list(values)
        for index, decode in self._json:
            fields[index] = decode(fields[index])
        row: Row = self.projection.row(**dict(zip(self._table.c.keys(), fields, strict=True)))
        return row

    def _values(self, row: Row) -> tuple[Any, ...]:
        finish = self.projection.finish
        values = msgspec.structs.astuple(row if finish is None else finish(row))
        if not self._json:
            return values
        fields = list(values)
        for index, _ in self._json:
            fields[index] = msgspec.json.encode(fields[index]).decode()
        return tuple(fields)


def _upsert(table: Table, dialect: Dialect) -> Any:  # noqa: ANN401 - either dialect's insert
    make = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    statement = make(table)
    changes = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes)


def _compiled(statement: Any, dialect: Dialect, columns: Iterable[str]) -> str:  # noqa: ANN401 - any statement
    """SQL whose parameters are the values of ``columns``, in that order."""
    names = list(columns)
    compiled = statement.compile(dialect=dialect, column_keys=names)
    assert compiled.positiontup == names, f"{compiled.positiontup} are not the parameters {names}"
    return str(compiled)


def _chunks(keys: Iterator[Key], size: int) -> Iterator[list[Key]]:
    while chunk := list(islice(keys, size)):
        yield chunk


def _all_fitting(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_fitting, row)) for row in rows]


def _fitting(value: Any) -> Any:  # noqa: ANN401 - any column's
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_INT64, min(value, _INT64))
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value
