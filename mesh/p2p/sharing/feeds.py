"""Which feeds this journal holds, how far, and what of its own is not shared yet: a pure fold of the journal."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from mesh.events.envelope import Event, Fact
from mesh.events.feed import contradict, feed_genesis
from mesh.events.vocabulary.journal import EquivocationFound, JournalReceived, JournalShared, SignedBatch
from mesh.events.vocabulary.network import PeerMisbehaved
from mesh.p2p.sharing.policy import Policy
from mesh.p2p.sharing.saved import SavedBook, SavedEvent, SavedFeed

# Who broke a rule of the bridge is left alone for this long, whatever happens to its connections.
BAN_S = 3600.0
RULE_PREFIX = "journal_"
# So far back can be served; the latest batches are remembered whole, to compare with what others say was signed.
INDEXED_EVENTS = 20_000
REMEMBERED = 64
# Facts of ours that wait to be shared; beyond it the oldest are not.
MAX_PENDING = 4096


class Held(NamedTuple):
    """Where a batch is: from which feed sequence on, and the positions of the events that record it.

    There is more than one where the node died between two of its events and took the rest later.
    """

    first: int
    positions: tuple[int, ...]


class Feed:
    """One feed as this journal holds it: all events up to ``last``, the newest of a batch that may be unfinished."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.epoch = 0
        self.last = 0
        self.origin_seq = 0
        self.cut = False
        self.size = 0
        self.types: set[str] = set()
        self.batches: list[Held] = []
        self.recent: deque[SignedBatch] = deque(maxlen=REMEMBERED)

    @property
    def newest(self) -> SignedBatch | None:
        """The newest batch, though not all of it may be here."""
        return self.recent[-1] if self.recent else None

    @property
    def whole(self) -> bool:
        """Whether the newest batch is here to its end."""
        return self.newest is not None and self.newest.last == self.last

    @property
    def link(self) -> bytes:
        """The chain's link behind the newest batch."""
        return bytes.fromhex(self.newest.link) if self.newest is not None else feed_genesis(self.origin, self.epoch)

    def contradicted_by(self, batch: SignedBatch) -> SignedBatch | None:
        """What the origin signed earlier that cannot be true beside ``batch``, as far as it is remembered."""
        return next((known for known in self.recent if contradict(known, batch)), None)

    def from_batch(self, sequence: int) -> Iterator[Held]:
        """The whole batches from the one that holds ``sequence`` on."""
        begin = bisect_right(self.batches, sequence, key=lambda held: held.first) - 1
        if begin < 0:
            return iter(())
        end = len(self.batches) if self.whole else len(self.batches) - 1
        return iter(self.batches[begin:end])

    def begin(self, batch: SignedBatch, position: int, held: int) -> None:
        """A batch is recorded at ``position``; ``held`` of its events were here before it."""
        if batch.epoch != self.epoch:
            self.epoch = batch.epoch
            self.batches.clear()
            self.recent.clear()
        if self.newest is None or self.newest.last != batch.last:
            self.recent.append(batch)
            if self.batches and batch.first != self.last + 1:
                self.batches.clear()  # what lies between was not taken
            self.batches.append(Held(batch.first, (position,)))
            self._forget()
        elif self.batches:
            self.batches[-1] = Held(batch.first, (*self.batches[-1].positions, position))
        self.last = batch.first - 1 + held

    def saved(self) -> SavedFeed:
        """All of it, to be put away."""
        return SavedFeed(
            origin=self.origin,
            epoch=self.epoch,
            last=self.last,
            origin_seq=self.origin_seq,
            cut=self.cut,
            size=self.size,
            types=self.types,
            batches=list(self.batches),
            recent=list(self.recent),
        )

    @classmethod
    def taken_up(cls, saved: SavedFeed) -> "Feed":
        """The inverse of `saved`."""
        feed = cls(saved.origin)
        feed.epoch, feed.last, feed.origin_seq = saved.epoch, saved.last, saved.origin_seq
        feed.cut, feed.size, feed.types = saved.cut, saved.size, saved.types
        feed.batches.extend(Held(*held) for held in saved.batches)
        feed.recent.extend(saved.recent)
        return feed

    def _forget(self) -> None:
        if len(self.batches) % 64 == 0:
            oldest = self.batches[-1].first - INDEXED_EVENTS
            del self.batches[: max(0, bisect_right(self.batches, oldest, key=lambda held: held.first) - 1)]


class FeedBook:
    """All feeds in the journal of the node ``policy.own``; `apply` is a fold of the journal, cheap for most events."""

    def __init__(self, own: str, policy: Policy) -> None:
        self.own = own
        self._policy = policy
        self.feeds: dict[str, Feed] = {own: Feed(own)}
        self.banned_at: dict[str, float] = {}
        self._pending: dict[Hashable, Event] = {}
        self._since: dict[Hashable, float] = {}
        self._reactions: Mapping[type[Fact], Callable[[Event, Any], None]] = {
            **dict.fromkeys(policy.facts, self._note),
            JournalShared: self._shared,
            JournalReceived: self._received,
            EquivocationFound: self._equivocated,
            PeerMisbehaved: self._misbehaved,
        }

    def apply(self, event: Event) -> None:
        """Fold one event of the journal."""
        if event.origin != self.own:
            self._foreign(event)
            return
        react = self._reactions.get(type(event.fact))
        if react is not None:
            react(event, event.fact)

    def saved(self) -> bytes:
        """See `mesh.events.live_state.LiveState.saved`."""
        feeds = [feed.saved() for feed in self.feeds.values()]
        pending = [SavedEvent.of(event) for event in self._pending.values()]
        return msgspec.json.encode(SavedBook(own=self.own, feeds=feeds, banned_at=self.banned_at, pending=pending))

    def take_up(self, saved: bytes) -> None:
        """See `mesh.events.live_state.LiveState.take_up`."""
        book = msgspec.json.decode(saved, type=SavedBook)
        if book.own != self.own or self.own not in {feed.origin for feed in book.feeds}:
            raise ValueError("these are the feeds of another node")
        pending = [each.event() for each in book.pending]
        self.feeds = {feed.origin: Feed.taken_up(feed) for feed in book.feeds}
        self.banned_at = book.banned_at
        self._pending = {self._policy.key(event): event for event in pending}
        self._since.clear()

    @property
    def mine(self) -> Feed:
        """This node's own feed."""
        return self.feeds[self.own]

    def pending(self, stored: int) -> list[Event]:
        """Events of ours up to the position ``stored`` that are to be shared, in order."""
        return [event for event in self._pending.values() if event.position <= stored]

    def waiting_since(self, event: Event) -> float:
        """Since when something of its kind is to be shared: what takes the place of another does not wait anew."""
        return self._since.get(self._policy.key(event), event.at)

    def pass_over(self, event: Event) -> None:
        """The event is not shared after all."""
        self._drop(self._policy.key(event))

    def is_cut(self, origin: str) -> bool:
        """Whether the node signed what contradicts itself: nothing of it is taken."""
        feed = self.feeds.get(origin)
        return feed is not None and feed.cut

    def is_banned(self, peer: str, now: float) -> bool:
        """Whether the bridge has nothing to do with the peer, at the wall-clock time ``now``."""
        return self.is_cut(peer) or now - self.banned_at.get(peer, float("-inf")) < BAN_S

    @property
    def size(self) -> int:
        """Bytes of other nodes' events in this journal."""
        return sum(feed.size for feed in self.feeds.values())

    def digest(self) -> str:
        """SHA-256 (hex) of where all feeds end, for two nodes to see whether they hold the same."""
        ends = sorted(
            f"{feed.origin} {feed.epoch} {feed.newest.last} {feed.newest.link}\n"
            for feed in self.feeds.values()
            if feed.newest is not None and not feed.cut
        )
        return sha256("".join(ends).encode()).hexdigest()

    def _note(self, event: Event, _fact: Fact) -> None:
        if not self._policy.shares(event):
            return
        key = self._policy.key(event)
        self._pending.pop(key, None)
        self._pending[key] = event
        self._since.setdefault(key, event.at)
        if len(self._pending) > MAX_PENDING:
            self._drop(next(iter(self._pending)))

    def _drop(self, key: Hashable) -> None:
        self._pending.pop(key, None)
        self._since.pop(key, None)

    def _shared(self, event: Event, fact: JournalShared) -> None:
        if not fact.positions:
            return
        mine = self.mine
        mine.begin(fact.batch, event.position, 0)
        mine.last = fact.batch.last
        mine.origin_seq = fact.batch.origin_seq
        for key, pending in list(self._pending.items()):
            if pending.position > fact.positions[-1]:
                break
            self._drop(key)

    def _received(self, event: Event, fact: JournalReceived) -> None:
        feed = self._feed(fact.batch.origin)
        if fact.batch.epoch != feed.epoch:
            feed.origin_seq = 0
        feed.begin(fact.batch, event.position, fact.held)
        feed.size += fact.size

    def _foreign(self, event: Event) -> None:
        feed = self.feeds.get(event.origin)
        if feed is not None:
            feed.last += 1
            feed.origin_seq = event.origin_seq
            feed.types.add(event.type)

    def _equivocated(self, _event: Event, fact: EquivocationFound) -> None:
        self._feed(fact.peer).cut = True

    def _misbehaved(self, event: Event, fact: PeerMisbehaved) -> None:
        if fact.rule.startswith(RULE_PREFIX):
            self.banned_at[fact.peer] = event.at
            if len(self.banned_at) > MAX_PENDING:
                del self.banned_at[min(self.banned_at, key=lambda peer: self.banned_at[peer])]

    def _feed(self, origin: str) -> Feed:
        return self.feeds.setdefault(origin, Feed(origin))
