"""Making the tables anew from the journal, beside the live ones, and comparing or swapping them in.

The swap is one transaction, so that readers see either the old rows or the new. A projector may go on meanwhile:
it is kept waiting for the swap only, then finds that its checkpoint moved, and goes on from there.
"""

import asyncio
from typing import NamedTuple

from sqlalchemy import Engine

from mesh.clock import Clock, SystemClock, rfc3339
from mesh.events.store import EventReader
from mesh.projections.catch_up import catch_up
from mesh.projections.checkpoints import Projections, add_missing, find_stale, furthest, mark_rebuilt, read_checkpoints
from mesh.projections.database import explained, writer_engine
from mesh.projections.digest import Digest, digest, live_digest
from mesh.projections.folds import PROJECTIONS
from mesh.projections.migrate import migrate
from mesh.projections.runner import Runner
from mesh.projections.scratch import Scratch, scratch_beside

# So few events are folded while the live tables are held still.
_LAST_STRETCH = 5000


class Verification(NamedTuple):
    """The live tables, and the same made anew from the journal up to the same position."""

    live: Digest
    rebuilt: Digest

    @property
    def identical(self) -> bool:
        """Whether they are equal; if not, `differing` names the tables."""
        return self.live == self.rebuilt

    @property
    def differing(self) -> tuple[str, ...]:
        """The tables whose digests differ."""
        return tuple(name for name, value in self.live.tables.items() if self.rebuilt.tables.get(name) != value)


async def rebuild(
    url: str,
    reader: EventReader,
    *,
    up_to: int | None = None,
    projections: Projections = PROJECTIONS,
    clock: Clock | None = None,
) -> Digest:
    """Make the tables of ``projections`` anew, swap them in, and return their digest.

    They end where the journal ends, but never behind the live tables; ``up_to`` makes them end there instead (a
    running projector then goes on from there). Raises JournalBroken, or DatabaseUnusable.
    """
    clock = clock or SystemClock()
    live = writer_engine(url)
    try:
        await asyncio.to_thread(migrate, live)  # it waits for whoever writes, as below
        with scratch_beside(url) as scratch:
            runner = Runner(scratch.engine, projections, clock=clock)
            runner.open()
            await catch_up(runner, reader, up_to)
            while not await _swap_in(live, scratch, runner, reader, projections, up_to, rfc3339(clock.now())):
                await catch_up(runner, reader)
            with scratch.engine.begin() as connection:
                return digest(connection, projections)
    finally:
        live.dispose()


async def rebuild_stale(url: str, reader: EventReader, *, clock: Clock | None = None) -> tuple[str, ...]:
    """Rebuild the tables that another version of their fold made, or that are new; return their names.

    For the projector, before it begins: nothing else may move the tables meanwhile.
    """
    engine = writer_engine(url)
    try:
        with explained(engine), engine.begin() as connection:
            known = read_checkpoints(connection)
    finally:
        engine.dispose()
    stale = find_stale(known, PROJECTIONS)
    if stale:
        others = len(stale) < len(PROJECTIONS)
        await rebuild(url, reader, up_to=furthest(known) if others else None, projections=stale, clock=clock)
    return tuple(projection.name for projection in stale)


async def verify_rebuild(url: str, reader: EventReader) -> Verification:
    """Compare the live tables with what the journal says they should be. Changes nothing.

    Raises JournalBroken, TablesStale, or DatabaseMissing.
    """
    live = live_digest(url)
    with scratch_beside(url) as scratch:
        runner = Runner(scratch.engine)
        runner.open()
        await catch_up(runner, reader, live.position)
        with scratch.engine.begin() as connection:
            return Verification(live, digest(connection))


async def _swap_in(
    live: Engine,
    scratch: Scratch,
    runner: Runner,
    reader: EventReader,
    projections: Projections,
    up_to: int | None,
    now: str,
) -> bool:
    """Swap, or return False when the live tables are too far ahead by now."""
    with explained(live), live.connect() as connection:
        # In a thread, since it waits for whoever writes: that may be a task of this very loop, and the broker takes
        # a loop that stands still for a client that says nothing.
        with await asyncio.to_thread(connection.begin):
            known = await asyncio.to_thread(read_checkpoints, connection, lock=True)
            ahead = 0 if up_to is not None else furthest(known) - runner.position
            if ahead > _LAST_STRETCH:
                return False
            if ahead > 0:
                await catch_up(runner, reader, runner.position + ahead)
            scratch.copy_into(connection, projections)
            add_missing(connection, projections, now)
            for projection in projections:
                mark_rebuilt(connection, projection, runner.position, now)
        scratch.let_go(connection)
    return True
