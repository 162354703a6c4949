"""SQLite's write-ahead log begins anew between commits, while the writer keeps its connection and its pages."""

from contextlib import closing
from itertools import count
from pathlib import Path

from sqlalchemy import text

from mesh.clock import SystemClock
from mesh.projections.write_ahead import WriteAheadLog
from tests.kit.tables import empty_tables

WITHIN_S = 60.0


class Hurried(SystemClock):
    """Seconds pass as milliseconds do, so that copying is always due."""

    def monotonic(self) -> float:
        return super().monotonic() * 1000


def beginning(log: Path) -> bytes:
    """The salts in its header, which differ each time that the log begins anew: https://sqlite.org/fileformat.html."""
    with log.open("rb") as file:
        return file.read(24)[16:]


def test_the_log_begins_anew_again_and_again_and_the_writer_keeps_its_connection(tmp_path: Path) -> None:
    clock, writers, beginnings = SystemClock(), set(), set()
    deadline = clock.monotonic() + WITHIN_S
    with empty_tables(tmp_path) as engine, closing(WriteAheadLog(engine, clock=Hurried())) as write_ahead:
        for number in count():
            with engine.begin() as connection:
                writers.add(id(connection.connection.driver_connection))
                connection.execute(text("CREATE TABLE IF NOT EXISTS filling (n INTEGER PRIMARY KEY)"))
                connection.execute(text("INSERT INTO filling VALUES (:n)"), {"n": number})
            write_ahead.tend()
            beginnings.add(beginning(tmp_path / "state.sqlite-wal"))
            if len(beginnings) > 5:
                break
            assert clock.monotonic() < deadline, f"{number} commits, and the log began {len(beginnings)} times"
    assert len(writers) == 1
