"""Finding what was changed in a journal: every event against its chain, its subject, and the node's signatures.

Pure. `mesh.events.audit_journal` puts a stored journal through it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mesh.errors import JournalBroken
from mesh.events.audit_feeds import FeedAudit
from mesh.events.chain import HASH_BYTES, genesis, link
from mesh.events.codec import decode
from mesh.events.envelope import Event, Record
from mesh.events.store import Head
from mesh.events.subjects import subject_of
from mesh.events.vocabulary.journal import JournalReceived, JournalSealed, JournalShared
from mesh.identity import is_signed_by

Kind = Literal["missing", "changed", "foreign", "unreadable", "subject", "seal", "unsealed", "truncated", "origin"]

MAX_FINDINGS = 100
# The sealer signs at least this often; a longer stretch without a seal was not written by a whole node.
SEAL_EVERY = 1000
# How far an event may have been moved for the audit to recognise it by its hash.
_REACH = 64


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong at ``position``."""

    position: int
    kind: Kind
    detail: str


@dataclass(frozen=True)
class Report:
    """What an audit saw. ``sealed_position`` is the last one that the node's own signature covers.

    ``more`` counts findings beyond the first MAX_FINDINGS.
    """

    owner: str
    events: int
    first: int
    last: int
    link: str
    seals: int
    sealed_position: int
    findings: tuple[Finding, ...]
    more: int

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        lines = [f"position {finding.position}: {finding.detail} ({finding.kind})" for finding in self.findings]
        if self.more:
            lines.append(f"and {self.more} more")
        seen = (
            f"{self.events} events up to position {self.last}; {self.seals} seals, signed up to {self.sealed_position}"
        )
        return "\n".join([f"{'whole' if self.ok else 'BROKEN'}: {seen}", *lines])

    def require_ok(self, remedy: str) -> None:
        """Raise JournalBroken for the first finding."""
        if self.findings:
            first = self.findings[0]
            raise JournalBroken(
                f"the journal is broken at position {first.position}: {first.detail}",
                position=first.position,
                remedy=remedy,
            )


def seal_bytes(owner: str, position: int, chain_link: bytes) -> bytes:
    """What the node signs: that at ``position`` of its journal the chain's link is ``chain_link``."""
    return b"mesh-seal/1:" + owner.encode() + b":" + position.to_bytes(8, "big") + chain_link


def verify(records: Iterable[Record], owner: str, *, head: Head | None = None, first: int = 1) -> Report:
    """Audit ``records``, which begin at position ``first`` of the journal of ``owner``.

    ``head`` is an end that the journal is known to have reached: it must still be there. From ``first`` > 1 on,
    the link that the first record states is taken on trust.
    """
    audit = Audit(owner, first=first, head=head)
    for record in records:
        audit.add(record)
    return audit.report()


class Audit:
    """`verify`, one record at a time."""

    def __init__(self, owner: str, *, first: int = 1, head: Head | None = None) -> None:
        self._owner = owner
        self._first = first
        self._head = head
        self._next = first
        self._link: bytes | None = genesis(owner) if first == 1 else None
        self._shift = 0  # positions by which what follows was moved when the store was made anew
        self._doubt: tuple[Record, bytes] | None = None
        self._last_link = self._link or b""
        self._events = 0
        self._seals = 0
        self._sealed_position = first - 1
        self._feeds = FeedAudit(owner, whole=first == 1)
        self._findings: list[Finding] = []
        self._more = 0

    def add(self, record: Record) -> None:
        """The next record of the journal."""
        if record.position != self._next:
            self._miss(record)
        self._next = record.position + 1
        self._events += 1
        if self._doubt is not None:
            self._resolve(record)
        if len(record.prev) != HASH_BYTES:
            self._find(record.position, "foreign", "it carries no link to the event before it: no node wrote it")
        elif self._link is not None and record.prev != self._link:
            self._doubt = (record, self._link)
        self._check_head(record)
        self._check_content(record)
        self._link = self._last_link = link(record.prev, record.position + self._shift, record.payload)

    @property
    def position(self) -> int:
        """The last position that was looked at."""
        return self._next - 1

    def require_reached(self, stored: int) -> None:
        """The store says that it holds events up to ``stored``: those that it did not give out are missing."""
        if stored > self.position:
            self._find(self._next, "missing", f"from here to {stored} the store holds nothing that can be read")

    def report(self) -> Report:
        """The result so far."""
        if self._doubt is not None:
            record, _ = self._doubt
            self._doubt = None
            self._find(
                max(record.position - 1, self._first),
                "changed",
                f"it does not fit the event at position {record.position}: one of the two was changed",
            )
        last = self._next - 1
        if self._head is not None and last < self._head.position:
            self._find(
                last + 1, "truncated", f"the journal had reached position {self._head.position}, now it ends here"
            )
        if last - self._sealed_position > 2 * SEAL_EVERY:
            self._find(
                self._sealed_position + 1,
                "unsealed",
                f"from here on no seal of the node covers the {last - self._sealed_position} events",
            )
        return Report(
            owner=self._owner,
            events=self._events,
            first=self._first,
            last=last,
            link=self._last_link.hex(),
            seals=self._seals,
            sealed_position=self._sealed_position,
            findings=tuple(sorted(self._findings, key=lambda found: (found.position, found.kind == "origin"))),
            more=self._more,
        )

    def _find(self, position: int, kind: Kind, detail: str) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(position, kind, detail))
        else:
            self._more += 1

    def _miss(self, record: Record) -> None:
        if record.position > self._next:
            count = record.position - self._next
            what = "it is" if count == 1 else f"it and the {count - 1} after it are"
            self._find(self._next, "missing", f"{what} missing from the store")
        else:
            self._find(record.position, "foreign", f"it stands where position {self._next} should")
        self._link, self._doubt = None, None

    def _resolve(self, following: Record) -> None:
        """Tell which of two events that do not fit was touched, by what the event after them says."""
        assert self._doubt is not None
        (record, expected), self._doubt = self._doubt, None
        here = record.position
        if following.prev == link(expected, here + self._shift, record.payload):
            self._find(here, "changed", "its link to the event before it was changed")
            self._link = following.prev
        elif following.prev == expected:
            self._find(here, "foreign", "it does not belong here: the event after it continues from the one before it")
            self._shift -= 1
            self._link = following.prev
        else:
            self._resolve_moved(record, following)

    def _resolve_moved(self, record: Record, following: Record) -> None:
        here = record.position + self._shift
        origin = next(
            (here + by for by in _nearest() if following.prev == link(record.prev, here + by, record.payload)), None
        )
        if origin is None:
            self._find(record.position, "changed", "neither the event before it nor the one after it fits it")
            self._link = following.prev
            return
        moved = origin - here
        if moved == 0:
            self._find(
                max(record.position - 1, 1),
                "changed" if record.position > 1 else "foreign",
                "what it says is not what was chained"
                if record.position > 1
                else f"the journal does not begin as one of {self._owner} does: it is another's, or lost its start",
            )
        elif moved > 0:
            self._find(record.position, "missing", f"{moved} event(s) were removed before what now stands here")
        else:
            self._find(record.position + moved, "foreign", f"{-moved} event(s) were inserted here")
        self._shift += moved
        self._link = following.prev

    def _check_head(self, record: Record) -> None:
        head = self._head
        if head is None or head.position != record.position or head.link == b"":
            return
        if link(record.prev, record.position, record.payload) != head.link:
            self._find(record.position, "changed", "it is not the event that the node remembers at this position")

    def _check_content(self, record: Record) -> None:
        try:
            event = decode(record)
        except (ValueError, LookupError) as error:
            self._find(record.position, "unreadable", f"its payload is not an event: {error}")
            return
        if record.subject != subject_of(event.origin, event.type):
            self._find(
                record.position, "subject", f"it is stored as {record.subject}, but is {event.type} of {event.origin}"
            )
        if record.id != event.id:
            self._find(record.position, "subject", f"it is stored with the id {record.id!r}, but its own is {event.id}")
        if event.origin != self._owner or isinstance(event.fact, JournalReceived | JournalShared):
            for detail in self._feeds.add(event, record.payload):
                self._find(record.position, "origin", detail)
        if isinstance(event.fact, JournalSealed) and event.origin == self._owner:
            self._check_seal(record, event, event.fact)

    def _check_seal(self, record: Record, event: Event, seal: JournalSealed) -> None:
        """A seal signs everything before it, so its link is the very one that its own record states."""
        del event
        try:
            stated, signature = bytes.fromhex(seal.link), bytes.fromhex(seal.signature)
        except ValueError:
            self._find(record.position, "seal", "the seal is not hex")
            return
        if seal.sealed_position != record.position + self._shift - 1 or stated != record.prev:
            self._find(record.position, "seal", f"the seal is of another history, at position {seal.sealed_position}")
        elif not is_signed_by(self._owner, seal_bytes(self._owner, seal.sealed_position, stated), signature):
            self._find(record.position, "seal", "the seal's signature is not the node's")
        else:
            self._seals += 1
            self._sealed_position = seal.sealed_position


def _nearest() -> Iterable[int]:
    yield 0
    for distance in range(1, _REACH + 1):
        yield distance
        yield -distance
