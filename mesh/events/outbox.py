"""What is on its way to the store: given out, sent, acknowledged, in the order of positions. Pure."""

from collections import deque
from typing import NamedTuple

from mesh.events.envelope import Record

_IN_FLIGHT_BYTES = 8 << 20
HEADER_BYTES = 512


class Written(NamedTuple):
    """By what a stored event is recognised as ours."""

    position: int
    id: str
    prev: str


def written(record: Record) -> Written:
    """How ``record`` is recognised once it is stored."""
    return Written(record.position, record.id, record.prev.hex())


class Outbox:
    """Records from ``position`` + 1 on; ``last`` is the record at ``position``, where there is one."""

    def __init__(self, position: int = 0, last: Record | None = None) -> None:
        self.given = position
        self.stored = position
        self.bytes = 0
        self._last = written(last) if last is not None else None
        self._waiting: deque[Record] = deque()
        self._sent: deque[Record] = deque()
        self._sent_bytes = 0

    @property
    def waiting(self) -> int:
        """How many records have still to be sent."""
        return len(self._waiting)

    @property
    def sent(self) -> int:
        """The last position that was sent, acknowledged or not."""
        return self.stored + len(self._sent)

    @property
    def in_flight(self) -> int:
        """How many records are sent and not acknowledged."""
        return len(self._sent)

    def add(self, record: Record) -> None:
        """Take the record at the next position."""
        self.given += 1
        self.bytes += size_of(record)
        self._waiting.append(record)

    def take(self, room: int) -> list[Record]:
        """At most ``room`` records to send now, fewer when they are large."""
        records: list[Record] = []
        waiting = self._waiting
        size = self._sent_bytes
        while waiting and room > 0 and size < _IN_FLIGHT_BYTES:
            record = waiting.popleft()
            size += len(record.payload) + HEADER_BYTES
            records.append(record)
            room -= 1
        self._sent_bytes = size
        self._sent.extend(records)
        return records

    def acknowledge(self, position: int) -> None:
        """Everything up to ``position`` is stored."""
        sent, size = self._sent, 0
        count = min(position - self.stored, len(sent))
        if count <= 0:
            return
        for _ in range(count):
            record = sent.popleft()
            size += len(record.payload) + HEADER_BYTES
        self._sent_bytes -= size
        self.bytes -= size
        self._last = written(record)
        self.stored = record.position

    def requeue(self) -> None:
        """What was sent and not acknowledged has to be sent again."""
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        self._sent_bytes = 0

    def written_at(self, position: int) -> Written | None:
        """What we have put at ``position``, from the last acknowledged one on; None when nothing was sent there."""
        if position == self.stored:
            return self._last
        index = position - self.stored - 1
        return written(self._sent[index]) if 0 <= index < len(self._sent) else None


def size_of(record: Record) -> int:
    """Roughly what a record takes on the wire and in memory."""
    return len(record.payload) + HEADER_BYTES
