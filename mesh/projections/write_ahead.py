"""Keeping SQLite's write-ahead log short without making a commit wait for it.

A commit that finds the log full copies all of it into the database first: 25 ms here, every half second at 2,000
events a second. So most of it is copied in a thread, which writers need not wait for, and only what came meanwhile
between two commits; the next commit then begins the log anew. https://www.sqlite.org/wal.html#checkpointing
"""

from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import Engine

from mesh.clock import Clock, SystemClock

_EVERY_S = 0.5


class WriteAheadLog:
    """Call `tend` between commits, and `close` at the end. Does nothing for other databases."""

    def __init__(self, engine: Engine, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        is_sqlite = engine.dialect.name == "sqlite"
        self._executor = ThreadPoolExecutor(1, "write-ahead log") if is_sqlite else None
        # Its own: two that took turns at writing would each find what they know of the pages to be out of date.
        self._connection = engine.raw_connection() if is_sqlite else None
        self._copying: Future[None] | None = None
        self._due = 0.0

    def tend(self) -> None:
        """Start copying, or finish what was copied beside. Raises what the database raised there."""
        if self._executor is None:
            return
        if self._copying is None:
            if self._clock.monotonic() >= self._due:
                self._copying = self._executor.submit(self._copy)
        elif self._copying.done():
            finished, self._copying = self._copying, None
            finished.result()
            self._copy()
            self._due = self._clock.monotonic() + _EVERY_S

    def close(self) -> None:
        """Let the thread end."""
        if self._executor is not None:
            self._executor.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _copy(self) -> None:
        assert self._connection is not None
        cursor = self._connection.cursor()
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        cursor.close()
