"""The event store for fast tests: a list. What is appended is acknowledged on the next turn of the loop."""

import asyncio
from collections.abc import AsyncIterator

from mesh.errors import JournalBroken, JournalError, JournalFenced
from mesh.events.chain import genesis, link
from mesh.events.envelope import Record
from mesh.events.store import Head

BATCH = 256


class MemoryEventStore:
    """Keeps the records of the node ``owner`` in a list, which may be handed to a later store to resume from."""

    def __init__(self, owner: str, records: list[Record] | None = None) -> None:
        self._owner = owner
        self.records = records if records is not None else []
        self._queued: list[Record] = []
        self._changed = asyncio.Condition()
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> Head:
        """See `EventStore.open`."""
        expected = genesis(self._owner)
        for record in self.records:
            if record.prev != expected:
                raise JournalBroken(
                    f"the event at position {record.position} does not follow the one before it",
                    position=record.position,
                )
            expected = link(record.prev, record.position, record.payload)
        return Head(len(self.records), expected)

    def append(self, record: Record) -> None:
        """See `EventStore.append`."""
        if self._closed:
            raise JournalError("the journal is closed")
        expected = self.stored_position + len(self._queued) + 1
        if record.position != expected:
            raise JournalFenced(f"position {record.position} was given out, the store expects {expected}")
        self._queued.append(record)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        async with self._changed:
            self.records.extend(self._queued)
            self._queued.clear()
            self._changed.notify_all()

    @property
    def stored_position(self) -> int:
        """See `EventStore.stored_position`."""
        return len(self.records)

    @property
    def backlog(self) -> int:
        """See `EventStore.backlog`."""
        return len(self._queued)

    async def wait_stored(self, position: int) -> None:
        """See `EventStore.wait_stored`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.stored_position >= position)

    async def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        """See `EventReader.read`."""
        stop = self.stored_position if last is None else min(last, self.stored_position)
        for start in range(first - 1, stop, BATCH):
            yield self.records[start : min(start + BATCH, stop)]

    async def close(self) -> None:
        """See `EventStore.close`."""
        self._closed = True
        if self._flusher is not None:
            await self._flusher
