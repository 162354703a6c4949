"""Batches as they were signed, for whoever asks: from memory while they are new, out of the journal after that."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

import structlog

from mesh.errors import MeshError
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.feed import holds
from mesh.events.store import EventReader
from mesh.events.vocabulary.journal import JournalReceived, JournalShared, SignedBatch
from mesh.p2p.sharing.feeds import Feed, Held
from mesh.p2p.sharing.messages import MAX_PAGE_BATCHES, encode_batch

CACHE_BYTES = 8 << 20
# Positions so far apart are read one by one instead of all between them.
_SPAN = 512
_READERS = 2
log = structlog.get_logger(__name__)


class Shelf:
    """Finds batches again. What is read from the journal is compared with what was signed before it goes out."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._reading = asyncio.Semaphore(_READERS)

    def keep(self, position: int, batch: SignedBatch, payloads: list[bytes]) -> None:
        """Remember the batch that the event at ``position`` records."""
        encoded = encode_batch(batch, payloads)
        self._cache[position] = encoded
        self._cached += len(encoded)
        while self._cached > CACHE_BYTES:
            self._cached -= len(self._cache.popitem(last=False)[1])

    async def page(self, feed: Feed, start: int, last: int, max_bytes: int) -> bytes:
        """The whole batches of the feed from the one that holds ``start`` to ``last``, as many as fit."""
        parts: list[bytes] = []
        size = 0
        for held in feed.from_batch(start):
            encoded = await self._encoded(feed, held) if held.first <= last else None
            if encoded is None or size + len(encoded) > max_bytes or len(parts) >= MAX_PAGE_BATCHES:
                break
            parts.append(encoded)
            size += len(encoded)
        return b"".join(parts)

    async def payload(self, position: int) -> bytes:
        """What is stored at a position. Raises JournalError."""
        async with self._reading:
            return (await self._record(position)).payload

    async def _encoded(self, feed: Feed, held: Held) -> bytes | None:
        found = self._cache.get(held.positions[0])
        if found is not None and len(held.positions) == 1:
            return found
        async with self._reading:
            try:
                batch, payloads = await self._read(held)
            except (MeshError, ValueError) as error:
                log.warning("a batch of a feed cannot be read", origin=feed.origin, first=held.first, error=str(error))
                return None
        if not holds(batch, payloads):
            log.error("a batch of a feed is not as it was signed", origin=feed.origin, first=held.first)
            return None
        if len(held.positions) == 1:
            self.keep(held.positions[0], batch, payloads)
        return encode_batch(batch, payloads)

    async def _read(self, held: Held) -> tuple[SignedBatch, list[bytes]]:
        fact = decode(await self._record(held.positions[0])).fact
        if isinstance(fact, JournalShared):
            return fact.batch, await self._scattered(fact.positions)
        if not isinstance(fact, JournalReceived):
            raise ValueError(f"position {held.positions[0]} records no batch")  # noqa: TRY004 - what is stored is wrong
        return fact.batch, [payload async for payload in self._pieces(fact.batch, held)]

    async def _pieces(self, batch: SignedBatch, held: Held) -> AsyncIterator[bytes]:
        """The events behind each record of the batch; each record says how many were there before."""
        begun = [0]
        for position in held.positions[1:]:
            fact = decode(await self._record(position)).fact
            begun.append(fact.held if isinstance(fact, JournalReceived) else 0)
        ends = [*begun[1:], batch.last - batch.first + 1]
        for position, begin, end in zip(held.positions, begun, ends, strict=True):
            if end > begin:
                async for records in self._reader.read(position + 1, position + end - begin):
                    for record in records:
                        yield record.payload

    async def _scattered(self, positions: tuple[int, ...]) -> list[bytes]:
        if positions[-1] - positions[0] > _SPAN:
            return [(await self._record(position)).payload for position in positions]
        wanted = set(positions)
        return [
            record.payload
            async for records in self._reader.read(positions[0], positions[-1])
            for record in records
            if record.position in wanted
        ]

    async def _record(self, position: int) -> Record:
        async for records in self._reader.read(position, position):
            return records[0]
        raise ValueError(f"the journal has no position {position}")
