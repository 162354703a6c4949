"""A journal as text: one JSON object a line, ``position``, ``prev``, ``id``, ``subject``, and ``payload`` as it is."""

from collections.abc import Iterable

import msgspec

from mesh.events.envelope import Record


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    position: int
    prev: str
    id: str
    subject: str
    payload: str


_decode = msgspec.json.Decoder(_Line).decode


def written(records: Iterable[Record]) -> str:
    """The text of a journal."""
    return "".join(
        msgspec.json.encode(
            _Line(record.position, record.prev.hex(), record.id, record.subject, record.payload.decode())
        ).decode()
        + "\n"
        for record in records
    )


def read(text: str) -> list[Record]:
    """The records in a text. Raises ValueError for a line that is none; the chain is for others to check."""
    lines = (_decode(line) for line in text.splitlines() if line)
    return [
        Record(line.position, bytes.fromhex(line.prev), line.id, line.subject, line.payload.encode()) for line in lines
    ]
