"""What is verified at every start: the journal's owner, the last thousand events, and the end that is remembered."""

from mesh.errors import JournalBroken
from mesh.events.audit import Audit
from mesh.events.chain import genesis, link
from mesh.events.envelope import Record
from mesh.events.store import EventReader, Head

TAIL = 1000
REMEDY = (
    "Nothing was written. `mesh audit verify` lists all damage. Restore the store from a backup; or, to begin a new"
    " journal, move broker/store, journal-head.json and state.sqlite out of the node's home."
)


async def verify_tail(reader: EventReader, owner: str, last: int, known: Head | None) -> tuple[Head, Record | None]:
    """The end of the journal of ``last`` events and its last record. Raises JournalBroken with position and remedy."""
    if known is not None and known.position > last:
        raise JournalBroken(
            f"the journal ends at position {last}, but had reached {known.position}: its end was lost",
            position=last + 1,
            remedy=REMEDY,
        )
    if last == 0:
        return Head(0, genesis(owner)), None
    first = max(1, last - TAIL + 1)
    if first > 1:
        await _verify_begin(reader, owner)
    if known is not None and 0 < known.position < first:
        await _verify_known(reader, known)
    audit, record = Audit(owner, first=first, head=known), None
    async for records in reader.read(first, last):
        for record in records:
            audit.add(record)
    report = audit.report()
    report.require_ok(REMEDY)
    return Head(last, bytes.fromhex(report.link)), record


async def _verify_begin(reader: EventReader, owner: str) -> None:
    record = await _one(reader, 1)
    if record.prev != genesis(owner):
        raise JournalBroken(
            f"the stored journal is not that of {owner}, but of another node",
            position=1,
            remedy="Use this node's own store; on a shared NATS server each node needs an account of its own.",
        )


async def _verify_known(reader: EventReader, known: Head) -> None:
    record = await _one(reader, known.position)
    if known.link and link(record.prev, record.position, record.payload) != known.link:
        raise JournalBroken(
            f"the event at position {known.position} is not the one that the node remembers",
            position=known.position,
            remedy=REMEDY,
        )


async def _one(reader: EventReader, position: int) -> Record:
    async for records in reader.read(position, position):
        return records[0]
    raise JournalBroken(f"the event at position {position} is missing", position=position, remedy=REMEDY)
