"""What to do with a batch that somebody brought: the decision, from what is held and the batch alone. Pure.

In which order, how often and by whom batches are brought makes no difference to what is accepted: a feed is taken from
one place on, each event once, in its order. Only a fault differs in whose it is: what the origin signed is the
origin's, all else the carrier's.
"""

from dataclasses import dataclass

from mesh.events.feed import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, feed_genesis, holds, is_signed, same
from mesh.events.vocabulary.journal import SignedBatch
from mesh.p2p.sharing.entries import BadEntry, check_entry
from mesh.p2p.sharing.feeds import Feed

MAX_TYPES = 64


@dataclass(frozen=True)
class Accept:
    """Record the batch, and behind it ``payloads``: its events but the first ``held``, which are here."""

    batch: SignedBatch
    payloads: tuple[bytes, ...]
    held: int


@dataclass(frozen=True)
class Known:
    """All of it is here, or it is of a feed that the origin gave up."""


@dataclass(frozen=True)
class Gap:
    """Feed sequences from ``wanted`` on are missing before it."""

    wanted: int


@dataclass(frozen=True)
class Fault:
    """``peer`` broke a rule."""

    peer: str
    rule: str
    detail: str


@dataclass(frozen=True)
class Equivocation:
    """The origin signed ``one`` and ``other``, which contradict each other."""

    one: SignedBatch
    other: SignedBatch
    detail: str


Verdict = Accept | Known | Gap | Fault | Equivocation


def judge_statement(feed: Feed, batch: SignedBatch, carrier: str) -> Fault | Equivocation | None:
    """What is wrong with a signed statement, without its events; None: nothing that can be seen here."""
    if not batch.first <= batch.last < batch.first + MAX_BATCH_EVENTS or batch.first < 1:
        return Fault(carrier, "journal_forged", f"a batch from {batch.first} to {batch.last}")
    if not is_signed(batch):
        return Fault(carrier, "journal_forged", f"{batch.origin} did not sign {_named(batch)}")
    if batch.epoch != feed.epoch:
        return None
    known = feed.contradicted_by(batch)
    if known is not None:
        return Equivocation(known, batch, f"{_named(known)}, and {_named(batch)}")
    return None


def judge(feed: Feed, batch: SignedBatch, payloads: list[bytes], carrier: str, *, begin: int) -> Verdict:
    """What to do with ``batch`` and its events.

    ``begin`` is the feed sequence from which on the feed is taken where nothing of it is held yet.
    """
    fault = judge_statement(feed, batch, carrier)
    if fault is not None:
        return fault
    if sum(map(len, payloads)) > MAX_BATCH_BYTES or not holds(batch, payloads):
        return Fault(carrier, "journal_forged", f"the events are not those of {_named(batch)}")
    held = _held(feed, batch, begin)
    if not isinstance(held, int):
        return held
    return _entries(feed, batch, payloads, held)


def _held(feed: Feed, batch: SignedBatch, begin: int) -> int | Known | Gap | Fault:
    """How many of the batch's events are here already, if it is what comes next."""
    if batch.epoch < feed.epoch:
        return Known()
    if batch.first == 1 and batch.prev != feed_genesis(batch.origin, batch.epoch).hex():
        return Fault(batch.origin, "journal_invalid", f"{_named(batch)} does not begin a feed")
    if feed.newest is None or batch.epoch > feed.epoch:
        return 0 if batch.first <= begin else Gap(begin)
    if batch.last <= feed.last:
        return Known()
    if same(batch, feed.newest):
        return feed.last - batch.first + 1  # the node died in the middle of it
    if feed.whole and batch.first == feed.last + 1:
        return 0  # its link fits: `judge_statement` compared it with the newest
    return 0 if feed.last + 1 < begin <= batch.last and batch.first <= begin else Gap(feed.last + 1)


def _entries(feed: Feed, batch: SignedBatch, payloads: list[bytes], held: int) -> Accept | Fault:
    """The origin signed these; each is an event that may be in a feed, or the origin is at fault."""
    fresh = batch.epoch != feed.epoch
    after, types = (0, set[str]()) if fresh else (feed.origin_seq, set(feed.types))
    for number, payload in enumerate(payloads[held:], batch.first + held):
        try:
            event = check_entry(batch.origin, payload, after)
        except BadEntry as error:
            return Fault(batch.origin, "journal_invalid", f"sequence {number} of its feed: {error}")
        after = event.origin_seq
        types.add(event.type)
    if after != batch.origin_seq or len(types) > MAX_TYPES:
        return Fault(batch.origin, "journal_invalid", f"{_named(batch)} says origin_seq {batch.origin_seq}")
    return Accept(batch, tuple(payloads[held:]), held)


def _named(batch: SignedBatch) -> str:
    return f"{batch.first} to {batch.last} of epoch {batch.epoch} with the link {batch.link[:16]}…"


def begin_at(feed: Feed, head: SignedBatch, *, history: int, catch_up: int) -> int:
    """From which feed sequence on to take what ``head`` is the end of.

    Where nothing of the feed is held, the last ``history`` events; where it is, what comes next, unless that is more
    than ``catch_up`` behind: then as a newcomer.
    """
    if head.epoch == feed.epoch and feed.newest is not None and head.last - feed.last <= catch_up:
        return feed.last + 1
    return max(1, head.last - history + 1)
