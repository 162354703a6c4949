"""Who says to hold which feed how far: what to ask whom for. Pure."""

from collections.abc import Iterator

from mesh.events.vocabulary.journal import SignedBatch
from mesh.p2p.sharing.feeds import Feed, FeedBook
from mesh.p2p.sharing.policy import Policy

MAX_CLAIMS = 1024


class Claims:
    """What each connected peer said of the feeds that it holds. It may be wrong: a claim is only where to ask."""

    def __init__(self, book: FeedBook, policy: Policy, max_origins: int) -> None:
        self._book = book
        self._policy = policy
        self._max_origins = max_origins
        self._heads: dict[str, dict[str, SignedBatch]] = {}

    def heard(self, carrier: str, head: SignedBatch) -> None:
        """The carrier holds a feed up to ``head``."""
        heads = self._heads.setdefault(carrier, {})
        known = heads.get(head.origin)
        if known is not None and (known.epoch, known.last) > (head.epoch, head.last):
            return
        if known is not None or len(heads) < MAX_CLAIMS:
            heads[head.origin] = head

    def drop(self, carrier: str, origin: str) -> None:
        """The carrier does not have it after all."""
        self._heads.get(carrier, {}).pop(origin, None)

    def forget(self, carrier: str) -> None:
        """The carrier is gone."""
        self._heads.pop(carrier, None)

    def wanted(self, carrier: str, now: float) -> list[SignedBatch]:
        """The ends of feeds that the carrier has more of than this journal, at the wall-clock time ``now``."""
        return [head for head in self._heads.get(carrier, {}).values() if self._wants(head, now)]

    def _wants(self, head: SignedBatch, now: float) -> bool:
        if not self._policy.takes(head.origin) or self._book.is_banned(head.origin, now):
            return False
        feed = self._book.feeds.get(head.origin)
        if feed is None or feed.newest is None:
            return sum(1 for _ in self._taken()) < self._max_origins
        return (head.epoch, head.last) > (feed.epoch, feed.last)

    def _taken(self) -> Iterator[Feed]:
        own = self._book.own
        return (feed for feed in self._book.feeds.values() if feed.newest is not None and feed.origin != own)
