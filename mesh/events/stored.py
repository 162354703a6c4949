"""How a record travels: two headers beside its payload, written here and read here.

There is no Nats-Msg-Id: the expected sequence makes duplicates impossible, and the server's table of ids, which
costs it a quarter of the work of storing an event, would add nothing.
"""

import re
from binascii import unhexlify

from mesh.events.envelope import Record
from mesh.events.wire import Message, header

POSITION = "Mesh-Position"
PREV = "Mesh-Prev"
# What the writer makes, which is nearly always what is read. Otherwise `header` looks for each.
_AS_WRITTEN = re.compile(rb"NATS/1\.0\r\nMesh-Position: \d+\r\nMesh-Prev: ([0-9a-f]{64})\r\n")
_BEFORE_ID = b'{"specversion":"1.0","id":"'


def headers_of(record: Record) -> str:
    """The header block without its end, so that a writer can add its own."""
    return f"NATS/1.0\r\nMesh-Position: {record.position}\r\nMesh-Prev: {record.prev.hex()}\r\n"


def to_record(sequence: int, subject: bytes, headers: bytes, payload: bytes) -> Record:
    """A stored message as a record. What was not written by a node has no link, and fits no chain."""
    match = _AS_WRITTEN.match(headers)
    prev = unhexlify(match[1]) if match is not None else _prev_in(headers)
    return Record(sequence, prev, id_in(payload), subject.decode("utf-8", "replace"), payload)


def id_in(payload: bytes) -> str:
    """The event id that a payload begins with; empty when it is not one of ours."""
    if not payload.startswith(_BEFORE_ID):
        return ""
    end = payload.find(b'"', len(_BEFORE_ID))
    found = payload[len(_BEFORE_ID) : end] if end > 0 else b""
    return found.decode("utf-8", "replace") if b"\\" not in found else ""


def _prev_in(headers: bytes) -> bytes:
    try:
        return bytes.fromhex(header(headers, PREV))
    except ValueError:
        return b""


def delivered_sequence(message: Message) -> int:
    """The stream sequence in a delivery's reply subject.

    ``$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.…``, or with domain and account before the stream.
    """
    parts = message[2].split(b".")
    return int(parts[5] if len(parts) == 9 else parts[7])
