"""What of the book of feeds is put away in a snapshot. Pure."""

from collections.abc import Sequence

import msgspec

from mesh.events.codec import decode_payload, encode
from mesh.events.envelope import Event
from mesh.events.vocabulary.journal import SignedBatch


class SavedFeed(msgspec.Struct, frozen=True, kw_only=True):
    """One feed; the fields are those of `mesh.p2p.sharing.feeds.Feed`."""

    origin: str
    epoch: int
    last: int
    origin_seq: int
    cut: bool
    size: int
    types: set[str]
    batches: Sequence[tuple[int, tuple[int, ...]]]
    recent: Sequence[SignedBatch]


class SavedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that waits to be shared, as the journal holds it."""

    position: int
    prev: bytes
    payload: bytes

    @classmethod
    def of(cls, event: Event) -> "SavedEvent":
        """The event, to be put away."""
        return cls(position=event.position, prev=event.prev, payload=encode(event).payload)

    def event(self) -> Event:
        """The event again. Raises ValueError."""
        return decode_payload(self.position, self.prev, self.payload)


class SavedBook(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, each in the order in which the book holds it."""

    own: str
    feeds: list[SavedFeed]
    banned_at: dict[str, float]
    pending: list[SavedEvent]
