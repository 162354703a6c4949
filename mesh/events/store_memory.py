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
        self._error: JournalError | None = None
        self._failed = asyncio.Event()

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
        if self._error is not None:
            raise self._error.with_traceback(None)
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
            await self._changed.wait_for(lambda: self.stored_position >= position or self._error is not None)
        if self.stored_position < position and self._error is not None:
            raise self._error

    async def failure(self) -> JournalError:
        """See `EventStore.failure`."""
        await self._failed.wait()
        assert self._error is not None
        return self._error

    def fail(self, error: JournalError) -> None:
        """Behave as a store that fails for good does."""
        self._error = error
        self._failed.set()

    async def last_position(self) -> int:
        """See `EventReader.last_position`."""
        return self.stored_position

    async def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        """See `EventReader.read`."""
        stop = self.stored_position if last is None else min(last, self.stored_position)
        for start in range(max(first, 1) - 1, stop, BATCH):
            yield self.records[start : min(start + BATCH, stop)]

    async def follow(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """See `EventReader.follow`."""
        position = max(first, 1)
        if position > self.stored_position + 1:
            raise JournalBroken(
                f"the journal ends at position {self.stored_position}, but had been read up to {position - 1}",
                position=self.stored_position + 1,
            )
        while True:
            await self.wait_stored(position)
            batch = self.records[position - 1 : position - 1 + BATCH]
            position += len(batch)
            yield batch

    async def scan(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """See `EventReader.scan`."""
        async for batch in self.read(first):
            yield batch

    async def close(self) -> None:
        """See `EventStore.close`."""
        self._error = self._error or JournalError("the journal is closed")
        if self._flusher is not None:
            await self._flusher
