"""A second set of tables beside the live ones, to build in and then take over or throw away."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

from mesh.projections.database import parse_url, writer_engine
from mesh.projections.projection import Projection
from mesh.projections.tables import METADATA

_SCHEMA = "mesh_rebuild"
_DIRECTORY = re.compile(r"^\.rebuild-(\d+)-")


@dataclass(frozen=True)
class Scratch:
    """``engine`` writes the second set, the live database reads it as ``schema``; ``file`` holds it, with SQLite."""

    engine: Engine
    schema: str
    file: Path | None

    def copy_into(self, live: Connection, projections: Sequence[Projection[Any]]) -> None:
        """Replace the rows of the live tables, in the transaction of ``live``, by those of the second set."""
        if self.file is not None:  # not before: BEGIN IMMEDIATE would keep us from writing there
            _driver(live).execute(f"ATTACH DATABASE ? AS {self.schema}", (str(self.file),))
        for projection in projections:
            columns = ", ".join(f'"{name}"' for name in projection.row.__struct_fields__)
            live.exec_driver_sql(f'DELETE FROM "{projection.name}"')  # noqa: S608 - names of our own tables
            live.exec_driver_sql(
                f'INSERT INTO "{projection.name}" ({columns}) '  # noqa: S608 - as above
                f'SELECT {columns} FROM {self.schema}."{projection.name}"'
            )

    def let_go(self, live: Connection) -> None:
        """Forget the second set, after the transaction of `copy_into`."""
        if self.file is not None:
            _driver(live).execute(f"DETACH DATABASE {self.schema}")


def _driver(connection: Connection) -> Any:  # noqa: ANN401 - sqlite3's
    return connection.connection.driver_connection


@contextmanager
def scratch_beside(url: str) -> Iterator[Scratch]:
    """Empty tables beside those of ``url``; gone when the context ends."""
    parsed = parse_url(url)
    with _beside_file(parsed) if parsed.get_backend_name() == "sqlite" else _beside_schema(parsed) as scratch:
        try:
            METADATA.create_all(scratch.engine)
            yield scratch
        finally:
            scratch.engine.dispose()


@contextmanager
def _beside_file(url: URL) -> Iterator[Scratch]:
    parent = Path(url.database or "").absolute().parent
    _remove_left_over(parent)
    directory = Path(mkdtemp(prefix=f".rebuild-{os.getpid()}-", dir=parent))
    file = directory / "tables.sqlite"
    engine = writer_engine(f"sqlite:///{file}")

    @event.listens_for(engine, "connect")
    def hurry(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        connection.execute("PRAGMA synchronous=OFF")  # a crash leaves it behind in any case

    try:
        yield Scratch(engine, _SCHEMA, file)
    finally:
        engine.dispose()
        shutil.rmtree(directory)


def _remove_left_over(parent: Path) -> None:
    for path in parent.glob(".rebuild-*"):
        owner = _DIRECTORY.match(path.name)
        if owner and not _is_running(int(owner[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _beside_schema(url: URL) -> Iterator[Scratch]:
    schema = f"{_SCHEMA}_{os.getpid()}"
    outside = writer_engine(url.render_as_string(hide_password=False))
    with outside.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    inside = url.update_query_dict({"options": f"-csearch_path={schema}"})
    try:
        yield Scratch(writer_engine(inside.render_as_string(hide_password=False)), schema, None)
    finally:
        with outside.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        outside.dispose()
