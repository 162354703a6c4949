"""Answers other nodes that ask for feeds: our own, and those of others that this journal holds."""

from mesh.clock import Clock
from mesh.errors import PeerMisbehaved
from mesh.events.vocabulary.journal import SignedBatch
from mesh.p2p.calls import CallFailed, Handler, InboundCall, Reply
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.messages import HEADS, MAX_PAGE_BYTES, RANGE, decode_range, encode_heads
from mesh.p2p.sharing.publisher import Publisher
from mesh.p2p.sharing.quota import Buckets
from mesh.p2p.sharing.shelf import Shelf
from mesh.p2p.sharing.streams import Network

# Calls of one peer: what catching up from far behind takes at once, and then ten a second.
CALLS_PER_S = 10.0
CALLS_AT_ONCE = 3000.0


class Desk:
    """The handlers of the journal protocol."""

    def __init__(self, book: FeedBook, publisher: Publisher, shelf: Shelf, network: Network, clock: Clock) -> None:
        self._book = book
        self._publisher = publisher
        self._shelf = shelf
        self._network = network
        self._clock = clock
        self._calls = Buckets(CALLS_PER_S, CALLS_AT_ONCE)
        self.handlers: dict[str, Handler] = {HEADS: self._heads, RANGE: self._range}

    async def _heads(self, call: InboundCall) -> Reply:
        self._count(call)
        return Reply({}, encode_heads(self.heads()))

    def heads(self) -> list[SignedBatch]:
        """The newest whole batch of each feed that others may have."""
        feeds = [feed for feed in self._book.feeds.values() if feed.origin != self._book.own and not feed.cut]
        held = [feed.newest for feed in feeds if feed.whole and feed.newest is not None]
        published = self._publisher.published
        return [published, *held] if published is not None else held

    async def _range(self, call: InboundCall) -> Reply:
        self._count(call)
        try:
            asked = decode_range(call.header)
        except PeerMisbehaved as fault:
            self._network.misbehaved(call.peer, fault.rule, fault.what)
            raise CallFailed("invalid", fault.what) from None
        feed = self._book.feeds.get(asked.origin)
        last = self._last(asked.origin)
        if feed is None or feed.cut or feed.epoch != asked.epoch or not 1 <= asked.start <= last:
            raise CallFailed("not_held", f"{asked.start} of the feed of {asked.origin} is not held here")
        page = await self._shelf.page(feed, asked.start, last, min(asked.max_bytes, MAX_PAGE_BYTES))
        if not page:
            raise CallFailed("not_held", f"{asked.start} of the feed of {asked.origin} is not held here any more")
        return Reply({}, page)

    def _last(self, origin: str) -> int:
        """Up to which sequence others may have a feed: our own only as far as it is published."""
        if origin == self._book.own:
            return self._publisher.published.last if self._publisher.published is not None else 0
        feed = self._book.feeds.get(origin)
        return feed.last if feed is not None else 0

    def _count(self, call: InboundCall) -> None:
        if not self._calls.of(call.peer).take(1, self._clock.monotonic()):
            self._network.misbehaved(call.peer, "journal_flood", f"more than {CALLS_PER_S:g} calls a second")
            raise CallFailed("overloaded", "too many calls")
