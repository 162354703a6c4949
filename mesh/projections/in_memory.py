"""The tables of a short journal, made in memory for as long as one question takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, ResourceClosedError

from mesh.errors import MeshError
from mesh.events.envelope import Record
from mesh.projections.by_name import by_name
from mesh.projections.database import writer_engine
from mesh.projections.digest import Digest, digest
from mesh.projections.runner import Runner
from mesh.projections.tables import METADATA


def digest_of_records(records: Sequence[Record]) -> Digest:
    """The digest of the tables that ``records``, a journal from its first event on, give."""
    with _tables(records) as connection:
        return digest(connection)


def rows_of(records: Sequence[Record], question: str) -> list[dict[str, Any]]:
    """The rows that a SELECT gives over those tables. Raises MeshError: no SELECT, or a column twice."""
    with _tables(records) as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
        try:
            result = connection.exec_driver_sql(question)
            return by_name(list(result.keys()), [tuple(row) for row in result])
        except (DBAPIError, ResourceClosedError) as error:
            why = getattr(error, "orig", None) or "it gives no rows"
            raise MeshError(f"{question!r}: {why}", remedy="docs/tables.md has the tables and columns.") from error


@contextmanager
def _tables(records: Sequence[Record]) -> Iterator[Connection]:
    engine = writer_engine("sqlite://")
    try:
        METADATA.create_all(engine)
        runner = Runner(engine)
        runner.open()
        runner.apply(records)
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
