"""The canonical hash of all tables: equal digests mean equal tables, whatever database holds them.

A table's digest is SHA-256 over its rows in the order of their keys, each row the MessagePack array of its
columns in order, numbers and text by their declared type. The digest of all is SHA-256 over the MessagePack
array of ``[name, digest]`` of each table, by name. Where the tables stand is told beside it, when they were
written is not part of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, MetaData, Select, Table, select

from mesh.projections.checkpoints import common_position, read_checkpoints
from mesh.projections.database import explained, reader_engine
from mesh.projections.folds import PROJECTIONS
from mesh.projections.projection import Projection
from mesh.projections.tables import METADATA

_ROWS_AT_A_TIME = 1000


class Digest(NamedTuple):
    """``total`` and the digest of each table, hex, at ``position`` of the journal."""

    position: int
    total: str
    tables: dict[str, str]


def digest(
    connection: Connection, projections: Sequence[Projection[Any]] = PROJECTIONS, metadata: MetaData = METADATA
) -> Digest:
    """The digest of all tables as one transaction sees them: ``connection`` must be in one, and isolated.

    Raises TablesStale when the tables do not stand at one position.
    """
    position = common_position(read_checkpoints(connection), projections)
    tables = {p.name: _digest_table(connection, metadata.tables[p.name]) for p in projections}
    return Digest(position, digest_of_tables(tables), tables)


def live_digest(url: str) -> Digest:
    """The digest of the tables at ``url``. Raises DatabaseMissing, DatabaseUnusable or TablesStale."""
    engine = reader_engine(url)
    try:
        with explained(engine), engine.begin() as connection:
            return digest(connection)
    finally:
        engine.dispose()


def digest_of_tables(tables: dict[str, str]) -> str:
    """The digest over the digests of single tables."""
    return sha256(msgspec.msgpack.encode([[name, tables[name]] for name in sorted(tables)])).hexdigest()


def digest_of_rows(rows: Iterable[Sequence[Any]]) -> str:
    """The digest of one table, from its rows in the order of their keys."""
    total = sha256()
    encode = msgspec.msgpack.Encoder().encode
    for row in rows:
        total.update(encode(tuple(row)))
    return total.hexdigest()


def _digest_table(connection: Connection, table: Table) -> str:
    return digest_of_rows(_rows(connection, select(table).order_by(*table.primary_key.columns)))


def _rows(connection: Connection, statement: Select[Any]) -> Iterator[Sequence[Any]]:
    result = connection.execute(statement, execution_options={"yield_per": _ROWS_AT_A_TIME})
    for partition in result.partitions():
        yield from partition
