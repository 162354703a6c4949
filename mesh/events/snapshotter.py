"""Takes a snapshot of the live states every so many events, and at an orderly stop."""

import asyncio
from collections.abc import Mapping

import msgspec
import structlog

from mesh.errors import JournalError
from mesh.events.envelope import Event
from mesh.events.journal import Journal, Resumed
from mesh.events.live_state import LiveState
from mesh.events.snapshots import Snapshot, SnapshotFiles
from mesh.events.store import EventStore
from mesh.keeper import Keeper

EVERY = 50_000
# A stop after fewer new events than these leaves none: folding them takes no time.
WORTH_IT = 1_000
_STOP_S = 5.0
log = structlog.get_logger(__name__)


class Snapshotter:
    """Snapshots of ``states``, which must be all that a journal folds.

    Give `resume` to `Journal.open`, then call `watch` with the journal. A snapshot that cannot be written is no failure
    of the node: it is said in the log, and the next one tries again.
    """

    def __init__(self, files: SnapshotFiles, states: Mapping[str, LiveState], *, every: int = EVERY) -> None:
        self._files = files
        self._states = states
        self._every = every
        self._taken_at = 0
        self._journal: Journal | None = None
        self._due = asyncio.Event()
        self.keeper = Keeper("snapshotter")

    async def resume(self, store: EventStore, last: int) -> Resumed:
        """Bring the states to the newest snapshot that the journal bears out; see `Journal.open`."""
        snapshot = await self._files.resume(self._states, store, last)
        if snapshot is None:
            return Resumed()
        self._taken_at = snapshot.position
        return Resumed(snapshot.position, snapshot.origin_seq)

    async def watch(self, journal: Journal) -> None:
        """Take snapshots of the open ``journal`` from now on."""
        self._journal = journal
        journal.listen(self._count)
        self._count()
        self.keeper.begin(self._run())

    async def stop(self) -> None:
        """Take a last one where it is worth it. Close the journal afterwards."""
        await self.keeper.end()
        if self._journal is not None and self._journal.position - self._taken_at >= WORTH_IT:
            await self._take(self._journal)

    async def _run(self) -> None:
        assert self._journal is not None
        while True:
            await self._due.wait()
            self._due.clear()
            await self._take(self._journal)

    async def _take(self, journal: Journal) -> None:
        """No event comes between reading the head and the states: there is no await between them."""
        position, link = journal.head
        states = {name: msgspec.Raw(state.saved()) for name, state in self._states.items()}
        snapshot = Snapshot(
            owner=self._files.owner,
            made_by=self._files.made_by,
            position=position,
            link=link.hex(),
            origin_seq=journal.origin_seq,
            states=states,
        )
        self._taken_at = position
        try:
            async with asyncio.timeout(_STOP_S):
                await journal.stored(position)
            await asyncio.to_thread(self._files.save, snapshot)
        except (JournalError, OSError, TimeoutError) as error:
            log.warning("no snapshot was taken", position=position, error=str(error) or type(error).__name__)

    def _count(self, _event: Event | None = None) -> None:
        assert self._journal is not None
        if self._journal.position - self._taken_at >= self._every:
            self._due.set()
