"""Reading the journal into the tables up to a position, in batches that SQL likes."""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from mesh.errors import JournalBroken
from mesh.events.envelope import Record
from mesh.events.store import EventReader
from mesh.projections.runner import Runner

# Rows are written once per batch, however often they change in it, so that larger batches write less.
BATCH = 10_000
_COLLECT_AFTER = 100_000


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Events and rows hold no reference cycles: a garbage collector that looks at each of them finds nothing, often."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def catch_up(runner: Runner, reader: EventReader, up_to: int | None = None) -> int:
    """Fold what is stored now, or up to ``up_to``; return the position reached.

    Raises JournalBroken when the journal ends before ``up_to``.
    """
    if up_to is None or up_to > runner.position:
        with collecting_rarely():
            async for records in coalesced(reader.read(runner.position + 1, up_to), BATCH):
                runner.apply(records)
    if up_to is not None and runner.position < up_to:
        raise JournalBroken(
            f"the journal ends at position {runner.position}, the tables know events up to {up_to}",
            position=runner.position + 1,
            remedy="Its end was lost: restore it from a backup, or rebuild the tables from what is left.",
        )
    return runner.position


async def coalesced(batches: AsyncIterator[list[Record]], size: int) -> AsyncIterator[list[Record]]:
    """The same records in lists of at least ``size``, the last one excepted."""
    waiting: list[Record] = []
    async for batch in batches:
        waiting += batch
        if len(waiting) >= size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
