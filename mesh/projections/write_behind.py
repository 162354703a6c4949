"""Committing one batch in a thread while the next is read and folded.

Python's threads run one at a time, but SQLite works without Python's lock for as long as a statement takes, and a
commit without it altogether: a replay of many events keeps two processors busy.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import Engine

from mesh.events.envelope import Record
from mesh.projections.database import reader_engine
from mesh.projections.runner import Runner

# A thread that wants Python's lock back after a statement waits so long for who folds: 5 ms without this.
_SWITCH_INTERVAL_S = 0.0002


class WriteBehind:
    """`Runner.apply`, whose second half happens later; see `write_behind`."""

    def __init__(self, runner: Runner, reads: Engine, executor: ThreadPoolExecutor) -> None:
        self._runner = runner
        self._reads = reads
        self._executor = executor
        self._committing: Future[None] | None = None

    def apply(self, records: Sequence[Record]) -> None:
        """Fold ``records``, and have them committed once all before them are. Raises what `Runner.apply` raises."""
        with self._reads.connect() as connection:
            batch = self._runner.fold(records, connection)
        self.settle()
        self._committing = self._executor.submit(self._runner.commit, batch)

    def settle(self) -> None:
        """Wait until everything is committed. Raises what the commit raised."""
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.result()


@contextmanager
def write_behind(runner: Runner) -> Iterator[WriteBehind]:
    """Batches for ``runner``, all of them committed when the context ends, unless it raises."""
    reads = reader_engine(runner.url)
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with runner.recovering(), ThreadPoolExecutor(1, "commit") as executor:
            writer = WriteBehind(runner, reads, executor)
            try:
                yield writer
            finally:
                writer.settle()
    finally:
        sys.setswitchinterval(before)
        reads.dispose()
