"""Well-formed chains of records, without a journal."""

from mesh.events.chain import genesis, link
from mesh.events.codec import encode
from mesh.events.envelope import Event, Fact, Record
from mesh.events.store import Head
from tests.kit.facts import suspected

OWNER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
OTHER = "12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3"


def record_of(fact: Fact, position: int, prev: bytes, *, origin: str = OWNER) -> Record:
    """One record; its id and time follow from its position."""
    return encode(
        Event(
            position=position,
            prev=prev,
            id=f"01990000-0000-7000-8000-{position:012x}",
            time=f"2026-01-01T00:00:{position % 60:02d}.000000Z",
            origin=origin,
            origin_seq=position,
            subject="",
            correlation="",
            causation="",
            fact=fact,
        )
    )


def chain_of(*facts: Fact, owner: str = OWNER, after: Head | None = None) -> list[Record]:
    """Records of ``facts``, chained after ``after`` (default: from the start)."""
    position, prev = after or Head(0, genesis(owner))
    records = []
    for fact in facts:
        position += 1
        records.append(record_of(fact, position, prev, origin=owner))
        prev = link(prev, position, records[-1].payload)
    return records


def some(count: int, *, owner: str = OWNER, after: Head | None = None) -> list[Record]:
    """``count`` records that can be told apart."""
    return chain_of(*(suspected(number) for number in range(count)), owner=owner, after=after)


def head_of(records: list[Record]) -> Head:
    """Where a chain ends."""
    last = records[-1]
    return Head(last.position, link(last.prev, last.position, last.payload))
