"""What is done with a batch that somebody brings: given what is held, when it comes, then the verdict."""

from msgspec.structs import replace

from mesh.config import ShareConfig
from mesh.events.feed import contradict, feed_genesis, is_signed, sign_batch
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.journal import JournalReceived
from mesh.p2p.sharing.acceptance import Accept, Equivocation, Fault, Gap, Known, Verdict, begin_at, judge
from mesh.p2p.sharing.feeds import Feed, FeedBook
from mesh.p2p.sharing.policy import Policy
from tests.kit.asking import identity
from tests.kit.bridges import alert, feed_of, payloads_of
from tests.kit.loop_clock import LoopClock
from tests.kit.records import record_of

ORIGIN, OTHER, CARRIER = identity(1), identity(2), "carrier"
FEED = feed_of(ORIGIN, 3, 2, 4)


async def given(*batches: int, feed: list = FEED) -> Feed:
    """The feed as a journal holds it that has taken these batches."""
    own = identity(9).peer_id
    book = FeedBook(own, Policy(own, ShareConfig()))
    journal = Journal(own, MemoryEventStore(own), LoopClock(), folds=[book.apply])
    await journal.open()
    for number in batches:
        batch, payloads = feed[number]
        journal.admit(JournalReceived(batch=batch, carrier=CARRIER, held=0, size=1), payloads, subject=ORIGIN.peer_id)
    return book.feeds.get(ORIGIN.peer_id) or Feed(ORIGIN.peer_id)


def when(feed: Feed, batch, payloads, *, begin: int = 1) -> Verdict:
    return judge(feed, batch, payloads, CARRIER, begin=begin)


async def test_the_batch_that_comes_next_is_taken_whole() -> None:
    for held in range(3):
        batch, payloads = FEED[held]
        assert when(await given(*range(held)), batch, payloads) == Accept(batch, tuple(payloads), 0)


async def test_what_is_here_is_known_and_what_is_too_far_on_waits_for_the_gap() -> None:
    feed = await given(0, 1)
    assert when(feed, *FEED[0]) == Known()
    assert when(feed, *FEED[1]) == Known()
    assert when(await given(0), *FEED[2]) == Gap(4)
    assert when(await given(), *FEED[1]) == Gap(1)


async def test_a_newcomer_begins_in_the_middle() -> None:
    assert isinstance(when(await given(), *FEED[1], begin=5), Accept)
    assert when(await given(), *FEED[2], begin=5) == Gap(5)


async def test_a_feed_that_is_far_behind_is_begun_again_only_where_it_was_meant_to() -> None:
    feed = await given(0)
    assert when(feed, *FEED[2], begin=7).held == 0
    assert when(feed, *FEED[2], begin=4) == Gap(4)


async def test_every_alteration_is_the_carriers_fault() -> None:
    batch, payloads = FEED[1]
    feed = await given(0)
    stranger = replace(batch, origin=OTHER.peer_id)
    for forged, brought in (
        (batch, [payloads[0], payloads[1].replace(b"91.5", b"11.5")]),
        (batch, payloads[::-1]),
        (batch, payloads[:1]),
        (batch, [*payloads, payloads[0]]),
        (replace(batch, last=batch.last + 1), [*payloads, payloads[0]]),
        (replace(batch, origin_seq=99), payloads),
        (replace(batch, link="00" * 32), payloads),
        (replace(batch, signature="00" * 64), payloads),
        (replace(batch, signature=""), payloads),
        (replace(batch, epoch=7), payloads),
        (stranger, payloads),
    ):
        verdict = when(feed, forged, brought)
        assert isinstance(verdict, Fault), verdict
        assert (verdict.peer, verdict.rule) == (CARRIER, "journal_forged")


async def test_two_batches_for_the_same_sequences_are_a_proof_against_the_origin() -> None:
    feed = await given(0, 1)
    lie = feed_of(ORIGIN, 3, 2, 4, mark=1)
    for batch, payloads in lie[:2]:
        verdict = when(feed, batch, payloads)
        assert isinstance(verdict, Equivocation)
        assert verdict.one in (FEED[0][0], FEED[1][0])
        assert verdict.other == batch
        assert is_signed(verdict.one)
        assert is_signed(verdict.other)
        assert contradict(verdict.one, verdict.other)


async def test_a_batch_that_goes_on_from_another_past_is_a_proof_as_well() -> None:
    lie = feed_of(ORIGIN, 3, 2, 4, mark=1)
    assert isinstance(when(await given(0, 1), *lie[2]), Equivocation)


async def test_other_borders_of_the_same_events_are_a_proof_too() -> None:
    """An honest node signs each event once; so a proof is always two signed statements, without events."""
    assert isinstance(when(await given(0), *feed_of(ORIGIN, 5)[0]), Equivocation)


async def test_what_is_signed_but_may_not_be_in_a_feed_is_the_origins_fault() -> None:
    prev = feed_genesis(ORIGIN.peer_id, 1)
    foreign = payloads_of(OTHER, 1, 1)
    backwards = payloads_of(ORIGIN, 2, 1) + payloads_of(ORIGIN, 1, 1)
    for payloads, last in ((foreign, 1), (backwards, 1), ([b"{}"], 1), (payloads_of(ORIGIN, 1, 2), 9)):
        batch = sign_batch(ORIGIN, epoch=1, first=1, origin_seq=last, prev=prev, payloads=payloads)
        verdict = when(await given(), batch, payloads)
        assert isinstance(verdict, Fault), verdict
        assert (verdict.peer, verdict.rule) == (ORIGIN.peer_id, "journal_invalid")


async def test_one_origin_seq_is_one_event_over_the_whole_feed() -> None:
    feed = await given(0)
    payloads = payloads_of(ORIGIN, 3, 1, mark=1)
    batch = sign_batch(ORIGIN, epoch=1, first=4, origin_seq=3, prev=feed.link, payloads=payloads)
    assert isinstance(when(feed, batch, payloads), Fault)


async def test_a_new_epoch_begins_anew_and_an_old_one_is_over() -> None:
    feed = await given(0)
    later = feed_of(ORIGIN, 2, epoch=2, mark=1)[0]
    assert isinstance(when(feed, *later), Accept)
    new = await given(0, feed=[later])
    assert (new.epoch, new.last, new.origin_seq) == (2, 2, 2)
    assert when(new, *FEED[1]) == Known()


async def test_how_much_is_fetched_of_whom() -> None:
    head, ahead = FEED[2][0], {"history": 4, "catch_up": 5}
    assert begin_at(await given(), head, **ahead) == 6
    assert begin_at(await given(), head, history=100, catch_up=5) == 1
    assert begin_at(await given(0, 1), head, **ahead) == 6
    assert begin_at(await given(0), head, history=4, catch_up=6) == 4
    assert begin_at(await given(0), head, history=2, catch_up=5) == 8


async def test_admitted_events_stand_together_behind_their_receipt_byte_for_byte() -> None:
    own = identity(9).peer_id
    store = MemoryEventStore(own)
    journal = Journal(own, store, LoopClock())
    heard = []

    def listen(event) -> None:
        heard.append(event.position)
        if event.type == "journal.received":
            journal.emit(alert(7))

    await journal.open()
    journal.listen(listen)
    batch, payloads = FEED[0]
    last = journal.admit(JournalReceived(batch=batch, carrier=CARRIER, held=0, size=1), payloads, subject="x")
    await last.stored()
    await journal.stored()
    assert [record.payload for record in store.records[1:4]] == payloads
    assert heard == [1, 2, 3, 4, 5]
    assert last.event.position == 4
    assert store.records[1].subject == f"mesh.event.{ORIGIN.peer_id}.alert.raised"
    await journal.close()


async def test_nothing_of_our_own_and_nothing_that_is_no_event_comes_in_from_outside() -> None:
    journal = Journal(ORIGIN.peer_id, MemoryEventStore(ORIGIN.peer_id), LoopClock())
    await journal.open()
    batch, payloads = FEED[0]
    receipt = JournalReceived(batch=batch, carrier=CARRIER, held=0, size=1)
    for bad in (payloads, [record_of(alert(1), 1, b"", origin=OTHER.peer_id).payload, b"nonsense"]):
        try:
            journal.admit(receipt, bad, subject="x")
        except ValueError:
            assert journal.position == 0
        else:
            raise AssertionError
    await journal.close()
