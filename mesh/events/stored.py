"""How a record travels: two headers beside its payload, written here and read here.

There is no Nats-Msg-Id: the expected sequence makes duplicates impossible, and the server's table of ids, which
costs it a quarter of the work of storing an event, would add nothing.
"""

import re
from binascii import unhexlify
from functools import lru_cache

from mesh.events.envelope import Record
from mesh.events.subjects import STREAM
from mesh.events.wire import Message, header

POSITION = "Mesh-Position"
PREV = "Mesh-Prev"
# What the writer makes, which is nearly always what is read. Otherwise `header` looks for each.
_AS_WRITTEN = re.compile(rb"NATS/1\.0\r\nMesh-Position: \d+\r\nMesh-Prev: ([0-9a-f]{64})\r\n")
_BEFORE_ID = b'{"specversion":"1.0","id":"'
_ID_AT = len(_BEFORE_ID)
# The same with the delivery around it: subject, sid, sequence, size of the headers, size of all, link. To match up to
# what ends a part takes half the time of matching what it is made of.
_DELIVERY = re.compile(
    rb"HMSG ([^ ]+) (\d+) \$JS\.ACK\.%b\.[^.]+\.\d+\.(\d+)\.[^ ]+ (\d+) (\d+)\r\n"
    rb"NATS/1\.0\r\nMesh-Position: \d+\r\nMesh-Prev: ([^\r]{64})\r\n" % STREAM.encode()
)


def headers_of(record: Record) -> str:
    """The header block without its end, so that a writer can add its own."""
    return f"NATS/1.0\r\nMesh-Position: {record.position}\r\nMesh-Prev: {record.prev.hex()}\r\n"


def to_record(sequence: int, subject: bytes, headers: bytes, payload: bytes) -> Record:
    """A stored message as a record. What was not written by a node has no link, and fits no chain."""
    match = _AS_WRITTEN.match(headers)
    prev = unhexlify(match[1]) if match is not None else _prev_in(headers)
    return Record(sequence, prev, id_in(payload), _subject(subject), payload)


def take_records(data: bytes, records: list[Record], sids: list[bytes]) -> int:
    """Move the deliveries at the front of ``data`` to ``records``, and their subscriptions to ``sids``.

    Return where the first message begins that is incomplete, or not as a node wrote it and JetStream delivers it: a
    `Parser` and `to_record` give the same, for any message and in twice the time.
    """
    position, size, match = 0, len(data), _DELIVERY.match
    while (found := match(data, position)) is not None:
        subject, sid, sequence, headers, whole, prev = found.groups()
        start = found.end(5) + 2
        body, stop = start + int(headers), start + int(whole)
        if stop + 2 > size or not found.end() <= body <= stop:
            break
        payload = data[body:stop]
        try:
            link = unhexlify(prev)
        except ValueError:
            break
        records.append(Record(int(sequence), link, id_in(payload), _subject(subject), payload))
        sids.append(sid)
        position = stop + 2
    return position


@lru_cache(maxsize=1024)
def _subject(subject: bytes) -> str:
    """There are few, and each is one string however often it is met, so that its hash is known."""
    return subject.decode("utf-8", "replace")


def id_in(payload: bytes) -> str:
    """The event id that a payload begins with; empty when it is not one of ours."""
    if not payload.startswith(_BEFORE_ID):
        return ""
    end = payload.find(b'"', _ID_AT)
    found = payload[_ID_AT:end] if end > 0 else b""
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
