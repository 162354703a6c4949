"""What somebody who can write to a node's disk might do to its journal, and how to do it."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mesh.events import jetstream
from mesh.events.connection import connect
from mesh.events.envelope import Record
from mesh.events.reader_nats import NatsEventReader
from mesh.events.stored import headers_of
from mesh.events.stream import StreamSettings, open_stream
from mesh.events.subjects import STREAM
from mesh.events.wire import publication
from mesh.home import Home
from tests.kit.broker import running_broker

Doctor = Callable[[list[Record]], list[Record]]


def copied(home: Home, to: Path) -> Home:
    """A copy of a stopped node's home."""
    shutil.copytree(home.root, to)
    return Home(to)


async def doctor_journal(home: Home, doctor: Doctor) -> None:
    """Put ``doctor(records)`` in the place of the records of a stopped node, each with the headers that it had."""
    async with running_broker(home.root) as broker:
        address = broker.address("node")
        records = [record async for batch in NatsEventReader(address).read() for record in batch]
        connection = await connect(address, name="doctor")
        try:
            await jetstream.call(connection, f"STREAM.DELETE.{STREAM}")
            await open_stream(connection, StreamSettings())
            kept = doctor(records)
            for record in kept:
                headers = (headers_of(record) + "\r\n").encode()
                connection.write(publication(record.subject, record.payload, headers=headers))
            async with asyncio.timeout(60):
                while (await jetstream.stream_state(connection)).last < len(kept):
                    await asyncio.sleep(0.01)
        finally:
            connection.close()


def blocks(home: Home) -> list[Path]:
    """The files that hold the events, in their order."""
    found = (home.broker / "store" / "jetstream" / "NODE" / "streams" / STREAM / "msgs").glob("*.blk")
    return sorted(found, key=lambda path: int(path.stem))


def flip_a_bit(block: Path, at: int) -> None:
    """Change one bit of a file; the server's index of it goes too, as when the disk is read anew."""
    data = bytearray(block.read_bytes())
    data[at] ^= 0x10
    block.write_bytes(data)


def forget_index(home: Home) -> None:
    """Delete what the server made of the blocks, so that it reads them again."""
    for block in blocks(home):
        with suppress(FileNotFoundError):
            (block.parent / "index.db").unlink()
