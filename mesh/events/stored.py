"""How a record travels: the headers beside its payload, written here and read here."""

import re

from mesh.events.envelope import Record
from mesh.events.wire import Message, header

# Not Nats-Msg-Id: the expected sequence makes duplicates impossible, and the server's table of ids, which costs
# it a quarter of the work of storing an event, would add nothing.
ID = "Mesh-Id"
POSITION = "Mesh-Position"
PREV = "Mesh-Prev"
# What the writer makes, which is nearly always what is read. Otherwise `header` looks for each.
_AS_WRITTEN = re.compile(rb"NATS/1\.0\r\nMesh-Id: ([^\r]+)\r\nMesh-Position: \d+\r\nMesh-Prev: ([0-9a-f]{64})\r\n")


def headers_of(record: Record) -> str:
    """The header block without its end, so that a writer can add its own."""
    position, prev = record.position, record.prev.hex()
    return f"NATS/1.0\r\nMesh-Id: {record.id}\r\nMesh-Position: {position}\r\nMesh-Prev: {prev}\r\n"


def to_record(sequence: int, subject: bytes, headers: bytes, payload: bytes) -> Record:
    """A stored message as a record. What was not written by a node has no id and no link, and fits no chain."""
    match = _AS_WRITTEN.match(headers)
    if match is not None:
        return Record(sequence, bytes.fromhex(match[2].decode()), match[1].decode(), subject.decode(), payload)
    try:
        prev = bytes.fromhex(header(headers, PREV))
    except ValueError:
        prev = b""
    return Record(sequence, prev, header(headers, ID), subject.decode("utf-8", "replace"), payload)


def delivered_sequence(message: Message) -> int:
    """The stream sequence in a delivery's reply subject.

    ``$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.…``, or with domain and account before the stream.
    """
    parts = message[2].split(b".")
    return int(parts[5] if len(parts) == 9 else parts[7])
