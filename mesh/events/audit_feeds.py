"""The part of the audit that is about others: every event of another node is one that this node signed. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from mesh.events.chain import link
from mesh.events.envelope import Event
from mesh.events.feed import is_signed
from mesh.events.vocabulary.journal import JournalReceived, JournalShared, SignedBatch


@dataclass
class _Arriving:
    """A batch of which events follow: the next sequence, and the link so far (None: its begin was not seen)."""

    batch: SignedBatch
    next: int
    link: bytes | None


class FeedAudit:
    """Follows the batches of each origin through the journal of ``owner``.

    ``whole``: the audit begins with the journal's first event, so that no batch can have begun before it.
    """

    def __init__(self, owner: str, *, whole: bool) -> None:
        self._owner = owner
        self._whole = whole
        self._arriving: dict[str, _Arriving] = {}
        self._unknown: set[str] = set()

    def add(self, event: Event, payload: bytes) -> Iterator[str]:
        """What is wrong with the next event of the journal, in words."""
        if event.origin != self._owner:
            yield from self._foreign(event, payload)
        elif isinstance(event.fact, JournalReceived):
            yield from self._received(event.fact)
        elif isinstance(event.fact, JournalShared) and not _is_of(event.fact.batch, self._owner):
            yield "the batch of the node's own feed is not signed by the node"

    def _received(self, fact: JournalReceived) -> Iterator[str]:
        batch = fact.batch
        if not _is_of(batch, batch.origin):
            yield f"the batch from {batch.first} to {batch.last} is not signed by {batch.origin}"
            self._arriving.pop(batch.origin, None)
            return
        begun = self._arriving.get(batch.origin)
        first = batch.first + fact.held
        known = begun is not None and begun.batch == batch and begun.next == first
        running = begun.link if known and begun is not None else None
        self._arriving[batch.origin] = _Arriving(batch, first, running if fact.held else bytes.fromhex(batch.prev))

    def _foreign(self, event: Event, payload: bytes) -> Iterator[str]:
        arriving = self._arriving.get(event.origin)
        if arriving is None:
            if self._whole and event.origin not in self._unknown:
                self._unknown.add(event.origin)
                yield f"no batch that {event.origin} signed holds it"
            return
        batch = arriving.batch
        if arriving.next > batch.last:
            yield f"it comes after the end of the batch from {batch.first} to {batch.last} of {event.origin}"
            return
        if arriving.link is not None:
            arriving.link = link(arriving.link, arriving.next, payload)
            if arriving.next == batch.last and arriving.link.hex() != batch.link:
                yield f"the events from {batch.first} to {batch.last} are not those that {event.origin} signed"
        arriving.next += 1


def _is_of(batch: SignedBatch, origin: str) -> bool:
    return batch.origin == origin and is_signed(batch)
