"""How records are put on the wire, for each durability. Pure.

``process``: one message after the other, up to a window ahead of what is acknowledged. ``power``, where the server
syncs every write to disk: atomic batches, so that one sync covers up to a thousand events; while one batch is
being committed the next one gathers.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from mesh.events.envelope import Record
from mesh.events.stored import headers_of
from mesh.events.wire import NO_RESPONDERS, Message, status_of

WINDOW = 4096
ACK_EVERY = 128
MAX_BATCH = 1000
EXPECTED = "Nats-Expected-Last-Sequence"


class Publisher(Protocol):
    """One way to write. ``probes``: after a pause, one record goes alone before others follow it unacknowledged."""

    probes: bool

    def room(self, unacknowledged: int) -> int:
        """How many more records may be sent now."""
        ...

    def encode(self, records: Sequence[Record], reply: str) -> bytes:
        """The bytes that publish ``records``. An acknowledgement for position n comes to ``reply`` + n."""
        ...


class Pipelined:
    """Single messages; some and the last of each write are acknowledged, which proves those before.

    It probes, because events already under way could otherwise fall in behind the first one of another writer.
    """

    probes = True

    def room(self, unacknowledged: int) -> int:
        """See `Publisher.room`."""
        return WINDOW - unacknowledged

    def encode(self, records: Sequence[Record], reply: str) -> bytes:
        """See `Publisher.encode`."""
        parts: list[bytes] = []
        for first in range(0, len(records), ACK_EVERY):
            group = records[first : first + ACK_EVERY]
            for record in group[:-1]:
                parts += _publication(record, f"{EXPECTED}: {record.position - 1}\r\n")
            last = group[-1]
            parts += _publication(last, f"{EXPECTED}: {last.position - 1}\r\n", f"{reply}{last.position} ")
        return b"".join(parts)


class Batched:
    """Atomic batches: all of a batch is stored and synced, or nothing. One is under way at a time."""

    probes = False

    def room(self, unacknowledged: int) -> int:
        """See `Publisher.room`."""
        return 0 if unacknowledged else MAX_BATCH

    def encode(self, records: Sequence[Record], reply: str) -> bytes:
        """See `Publisher.encode`."""
        if len(records) == 1:
            return Pipelined().encode(records, reply)
        batch = f"{reply.split('.')[1]}-{records[0].position}-{reply.split('.')[3]}"
        parts: list[bytes] = []
        for number, record in enumerate(records, start=1):
            extra, to = f"Nats-Batch-Id: {batch}\r\nNats-Batch-Sequence: {number}\r\n", ""
            if number == 1:
                extra += f"{EXPECTED}: {record.position - 1}\r\n"
            if number == len(records):
                extra, to = f"{extra}Nats-Batch-Commit: 1\r\n", f"{reply}{record.position} "
            parts += _publication(record, extra, to)
        return b"".join(parts)


def publisher_for(durability: Literal["process", "power"]) -> Publisher:
    """The way of writing that keeps the promise of a durability."""
    return Batched() if durability == "power" else Pipelined()


def _publication(record: Record, extra: str, reply: str = "") -> tuple[bytes, bytes, bytes]:
    headers, payload = f"{headers_of(record)}{extra}\r\n", record.payload  # ASCII: characters are bytes
    size = len(headers)
    line = f"HPUB {record.subject} {reply}{size} {size + len(payload)}\r\n{headers}"
    return line.encode(), payload, b"\r\n"


class Refusal(msgspec.Struct, frozen=True):
    """Why JetStream did not store an event; ``err_code`` 0 stands for "nobody answered"."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Acknowledgement(msgspec.Struct, frozen=True):
    """What JetStream says of one publication."""

    seq: int = 0
    error: Refusal | None = None


_decode = msgspec.json.Decoder(Acknowledgement).decode


def read_acknowledgement(message: Message) -> Acknowledgement:
    """The acknowledgement in a message. Raises ValueError when there is none in it."""
    if message[3] and status_of(message[3]) == NO_RESPONDERS:
        return Acknowledgement(error=Refusal(code=NO_RESPONDERS, description="no stream takes the event"))
    return _decode(message[4])
