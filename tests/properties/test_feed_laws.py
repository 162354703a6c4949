"""Whatever is brought, in which order, how often, by whom: what is accepted is the origin's feed, each event once."""

import asyncio
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mesh.config import ShareConfig
from mesh.errors import PeerMisbehaved
from mesh.events.audit import verify
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary import FACTS
from mesh.events.vocabulary.journal import JournalReceived, SignedBatch
from mesh.p2p.sharing.acceptance import Accept, Equivocation, Fault, judge
from mesh.p2p.sharing.entries import BadEntry, check_entry
from mesh.p2p.sharing.feeds import Feed, FeedBook
from mesh.p2p.sharing.messages import decode_announcement, decode_heads, decode_page, encode_batch
from mesh.p2p.sharing.policy import Policy, may_be_shared
from mesh.projections.fold import Router, fold, keyed
from mesh.projections.folds import PROJECTIONS
from tests.kit.asking import identity
from tests.kit.bridges import feed_of
from tests.kit.loop_clock import LoopClock
from tests.kit.records import record_of
from tests.kit.vocabulary import any_fact

ORIGIN, OWN = identity(1), identity(9).peer_id
SIZES = (3, 1, 4, 2, 5, 1, 2)
TRUE = feed_of(ORIGIN, *SIZES)
LIES = feed_of(ORIGIN, *SIZES, mark=1)
EVENTS = [payload for _, payloads in TRUE for payload in payloads]
Batch = tuple[SignedBatch, list[bytes]]


class Taker:
    """A journal that takes what is acceptable; ``records`` are those of an earlier life."""

    def __init__(self, records: list[Record]) -> None:
        self.book = FeedBook(OWN, Policy(OWN, ShareConfig()))
        self.store = MemoryEventStore(OWN, records)
        self.journal = Journal(OWN, self.store, LoopClock(), folds=[self.book.apply])

    async def bring(self, batch: Batch) -> Accept | Fault | Equivocation | object:
        feed = self.book.feeds.get(ORIGIN.peer_id) or Feed(ORIGIN.peer_id)
        verdict = judge(feed, *batch, "carrier", begin=1)
        if isinstance(verdict, Accept):
            receipt = JournalReceived(batch=verdict.batch, carrier="carrier", held=verdict.held, size=0)
            await self.journal.admit(receipt, verdict.payloads, subject=ORIGIN.peer_id).stored()
        return verdict

    @property
    def taken(self) -> list[bytes]:
        return [record.payload for record in self.store.records if decode(record).origin == ORIGIN.peer_id]


def forged(batch: Batch, at: int) -> Batch:
    payloads = list(batch[1])
    payloads[at % len(payloads)] = payloads[at % len(payloads)].replace(b'"full"', b'"well"')
    return batch[0], payloads


@settings(max_examples=150, deadline=None)
@given(
    brought=st.lists(st.tuples(st.integers(0, len(SIZES) - 1), st.sampled_from(["true", "forged"])), max_size=40),
    crashes=st.dictionaries(st.integers(0, 39), st.integers(0, 6), max_size=3),
)
def test_any_order_repetition_loss_and_forgery_gives_the_beginning_of_the_feed(
    brought: list[tuple[int, str]], crashes: dict[int, int]
) -> None:
    async def story() -> None:
        taker = Taker([])
        await taker.journal.open()
        for step, (number, kind) in enumerate(brought):
            verdict = await taker.bring(TRUE[number] if kind == "true" else forged(TRUE[number], step))
            assert isinstance(verdict, Fault) == (kind == "forged")
            assert taker.taken == EVENTS[: len(taker.taken)]
            if step in crashes:  # the last events never reached the disk
                kept = taker.store.records[: max(0, len(taker.store.records) - crashes[step])]
                taker = Taker(kept)
                await taker.journal.open()
        for batch in TRUE:
            await taker.bring(batch)
        assert taker.taken == EVENTS
        report = verify(taker.store.records, OWN)
        assert [finding.kind for finding in report.findings] in ([], ["unsealed"]), report

    asyncio.run(story())


@settings(max_examples=100, deadline=None)
@given(order=st.permutations([*TRUE, *LIES]))
def test_two_feeds_of_one_origin_are_found_out_and_never_mixed(order: list[Batch]) -> None:
    async def story() -> None:
        taker = Taker([])
        await taker.journal.open()
        verdicts = [await taker.bring(batch) for batch in (*order, *order)]
        assert any(isinstance(verdict, Equivocation) for verdict in verdicts)
        assert not any(isinstance(verdict, Fault) for verdict in verdicts)
        lies = [payload for _, payloads in LIES for payload in payloads]
        assert taker.taken in (EVENTS[: len(taker.taken)], lies[: len(taker.taken)])

    asyncio.run(story())


@settings(max_examples=300, deadline=None)
@given(fact=st.one_of(*(any_fact(kind) for kind in FACTS if may_be_shared(kind.type))), number=st.integers(1, 9))
def test_what_may_be_in_a_feed_breaks_no_table(fact: object, number: int) -> None:
    record = record_of(fact, number, b"", origin=ORIGIN.peer_id)
    try:
        event = check_entry(ORIGIN.peer_id, record.payload, 0)
    except BadEntry:
        return
    for projection, events in zip(PROJECTIONS, Router(PROJECTIONS).route([event, event]), strict=True):
        entries = keyed(projection, events)
        rows = fold(projection, entries, {key: None for key, _ in entries if key is not None})
        for row in rows.values():
            if row is not None and projection.finish is not None:
                projection.finish(row)


@settings(max_examples=500, deadline=None)
@given(
    data=st.binary(max_size=400) | st.builds(lambda b, n: b[:n], st.just(encode_batch(*TRUE[0])), st.integers(0, 900))
)
def test_any_bytes_are_a_page_or_the_peers_fault(data: bytes) -> None:
    for parse in (decode_page, decode_heads, lambda raw: decode_announcement("12D3Koo", raw)):
        with suppress(PeerMisbehaved):
            parse(data)
    with suppress(BadEntry):
        check_entry(ORIGIN.peer_id, data, 0)


def test_a_page_is_read_as_it_was_written() -> None:
    assert decode_page(b"".join(encode_batch(*batch) for batch in TRUE)) == TRUE


def test_the_audit_finds_an_event_that_its_origin_never_signed() -> None:
    async def story() -> None:
        taker = Taker([])
        await taker.journal.open()
        for batch in TRUE[:2]:
            await taker.bring(batch)
        batch, payloads = forged(TRUE[2], 1)
        receipt = JournalReceived(batch=batch, carrier="carrier", held=0, size=0)
        await taker.journal.admit(receipt, payloads, subject="").stored()
        unsigned = JournalReceived(batch=replace(TRUE[3][0], origin_seq=77), carrier="c", held=0, size=0)
        await taker.journal.emit(unsigned).stored()
        report = verify(taker.store.records, OWN)
        found = [(finding.position, finding.kind) for finding in report.findings]
        assert found == [(11, "origin"), (12, "origin")]

    asyncio.run(story())
