"""The journal's stream as records: in order, without gaps, in batches of whatever has arrived."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from mesh.errors import BrokerError, JournalBroken
from mesh.events import jetstream
from mesh.events.broker import BrokerAddress
from mesh.events.connection import connect
from mesh.events.envelope import Record
from mesh.events.pulls import Pulls

_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 2.0


class NatsEventReader:
    """Reads the journal at ``address``. Each `read` and each `follow` has a connection of its own."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address

    async def last_position(self) -> int:
        """See `EventReader.last_position`. Raises BrokerError when the server cannot be reached."""
        connection = await connect(self._address, name="mesh reader")
        try:
            return (await jetstream.stream_state(connection)).last
        except jetstream.JetStreamError as error:
            if error.code == jetstream.STREAM_NOT_FOUND:
                return 0
            raise
        finally:
            connection.close()

    async def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        """See `EventReader.read`. Raises BrokerError when the server cannot be reached."""
        position = max(first, 1)
        stored = await self.last_position()
        stop = stored if last is None else min(last, stored)
        if position > stop:
            return
        async with aclosing(self._pull(position, wait=False)) as batches:
            async for records in batches:
                position += len(records)
                if position > stop:
                    yield records[: len(records) - (position - stop - 1)]
                    return
                yield records
        raise _missing(position)

    async def follow(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """See `EventReader.follow`. A server that goes away is waited for, for as long as it takes."""
        position, pause = max(first, 1), _RETRY_MIN_S
        while True:
            with suppress(BrokerError):
                await self._require_reached(position)
                async with aclosing(self._pull(position, wait=True)) as batches:
                    async for records in batches:
                        position += len(records)
                        pause = _RETRY_MIN_S
                        yield records
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_MAX_S)

    async def scan(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """See `EventReader.scan`. Raises BrokerError when the server cannot be reached."""
        stored = await self.last_position()
        if first > stored:
            return
        async with aclosing(self._pull(max(first, 1), wait=False, gaps=True)) as batches:
            async for records in batches:
                yield records
                if records[-1].position >= stored:
                    return

    async def _pull(self, position: int, *, wait: bool, gaps: bool = False) -> AsyncGenerator[list[Record]]:
        pulls = Pulls(await connect(self._address, name="mesh reader"), wait=wait)
        try:
            await pulls.begin(position)
            while records := await pulls.take():
                if not gaps:
                    _require_contiguous(records, position)
                    position += len(records)
                yield records
        finally:
            pulls.close()

    async def _require_reached(self, position: int) -> None:
        last = await self.last_position()
        if position > last + 1:
            raise JournalBroken(
                f"the journal ends at position {last}, but had been read up to {position - 1}",
                position=last + 1,
                remedy="Its end was lost: restore it from a backup, or rebuild what was read (`mesh rebuild`).",
            )


def _require_contiguous(records: list[Record], position: int) -> None:
    if records[0].position == position and records[-1].position == position + len(records) - 1:
        return
    held = {record.position for record in records}
    raise _missing(next(wanted for wanted in range(position, records[-1].position + 2) if wanted not in held))


def _missing(position: int) -> JournalBroken:
    return JournalBroken(
        f"the event at position {position} is missing from the store",
        position=position,
        remedy="Its bytes are damaged or were removed: restore the store from a backup; `mesh audit verify` lists all.",
    )
