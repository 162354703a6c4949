"""What is shared, when, and what of others' is let in; and that it decides nothing here."""

import json

import pytest

from mesh.config import ShareConfig
from mesh.errors import ConfigError
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary import FACTS
from mesh.events.vocabulary.experts import ExpertOffered
from mesh.events.vocabulary.health import NodeSampled
from mesh.events.vocabulary.journal import JournalReceived
from mesh.events.vocabulary.requests import RequestReceived
from mesh.experts.state import RoutingState
from mesh.health.state import HealthState
from mesh.history import NodeHistory
from mesh.p2p.sharing.entries import BadEntry, check_entry
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy, may_be_shared, shared_facts
from mesh.p2p.sharing.quota import Bucket, Buckets
from tests.kit.asking import identity
from tests.kit.bridges import alert, feed_of
from tests.kit.loop_clock import LoopClock
from tests.kit.records import record_of
from tests.kit.vocabulary import sample

OWN, OTHER = identity(1).peer_id, identity(2)


def offer(peer: str, expert: str = "a") -> ExpertOffered:
    return ExpertOffered(
        peer=peer, expert=expert, model="", domains=("language",), concurrency=1, queue_limit=0, in_flight=0,
        queued=0, available=True, quality=0.5, valid_s=60.0,
    )  # fmt: skip


async def opened(book: FeedBook) -> Journal:
    journal = Journal(OWN, MemoryEventStore(OWN), LoopClock(), folds=[book.apply])
    await journal.open()
    return journal


def test_requests_are_never_shared_and_a_typo_is_an_error() -> None:
    assert not any(may_be_shared(fact.type) for fact in FACTS if fact.type.startswith("request."))
    for names in (["request"], ["request.received"], ["alerts"], ["journal.received"], ["alert", "typo"]):
        with pytest.raises(ConfigError, match="is no fact that is shared"):
            shared_facts(names)
    assert {fact.type.partition(".")[0] for fact in shared_facts(ShareConfig().facts)} == {
        "node", "expert", "alert", "health", "journal",
    }  # fmt: skip


async def test_what_waits_is_the_newest_of_a_kind_but_has_waited_since_the_first() -> None:
    book = FeedBook(OWN, Policy(OWN, ShareConfig()))
    journal = await opened(book)
    first = journal.emit(sample(NodeSampled)).event
    journal.emit(offer(OWN))
    journal.emit(offer(OTHER.peer_id))
    journal.emit(sample(RequestReceived))
    journal.emit(offer(OWN, "b"))
    newest = journal.emit(sample(NodeSampled)).event
    assert [event.position for event in book.pending(100)] == [2, 5, 6]
    assert [event.position for event in book.pending(5)] == [2, 5]
    assert book.waiting_since(newest) == first.at
    await journal.close()


async def test_a_node_that_shares_nothing_has_nothing_to_share() -> None:
    book = FeedBook(OWN, Policy(OWN, ShareConfig(enabled=False)))
    journal = await opened(book)
    journal.emit(alert(1))
    assert book.pending(100) == []
    await journal.close()


def bent(**changes: object) -> bytes:
    payload = json.loads(record_of(alert(1), 5, b"", origin=OTHER.peer_id).payload)
    data = {**payload["data"], **{name: value for name, value in changes.items() if name in payload["data"]}}
    payload |= {name: value for name, value in changes.items() if name not in data}
    return json.dumps({**payload, "data": data}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b'{"specversion":"1.0"}', bent()[:-1], b" " + bent(),
        bent(originseq=4), bent(originseq=1 << 60), bent(originseq="5"),
        bent(source=f"/mesh/{OWN}"), bent(type="mesh.request.received", dataschema="urn:mesh:request.received:9"),
        bent(type="mesh.alert.Raised", dataschema="urn:mesh:alert.Raised:1"),
        bent(time="yesterday"), bent(time="2026-02-30T00:00:00.000000Z"), bent(time="9999-12-31T23:59:59.999999Z"),
        bent(summary="x" * 513), bent(summary="a\0b"), bent(target=7), bent(held_s=1e300),
        bent(evidence={"a": 10**40}), bent(evidence={"k" * 600: 1.0}), bent(id="x" * 65), bent(id="a b"),
        bent(subject="[" * 600), bent(extra=[[[[[[[[[[1]]]]]]]]]]), bent(summary="é" * 257),
        bent(pad="".join("x" * 500)) + b" " * 40_000,
        record_of(offer(OTHER.peer_id), 5, b"", origin=OTHER.peer_id).payload.replace(b"60.0", b"1e12"),
    ],
)  # fmt: skip
def test_what_may_not_be_in_a_feed_is_refused(payload: bytes) -> None:
    with pytest.raises(BadEntry):
        check_entry(OTHER.peer_id, payload, 4)


def test_what_may_be_in_a_feed_is_an_event_also_of_a_kind_to_come() -> None:
    assert check_entry(OTHER.peer_id, bent(), 4).fact == alert(1)
    later = bent(type="mesh.alert.escalated", dataschema="urn:mesh:alert.escalated:3", unheard_of={"of": [1]})
    assert check_entry(OTHER.peer_id, later, 4).type == "alert.escalated"


async def test_what_others_say_decides_nothing_here() -> None:
    """Every fact that may be shared, as another node's, leaves no trace in what this node decides from."""
    routing, health, past = RoutingState(OWN), HealthState(node=OWN), NodeHistory(OWN)
    journal = Journal(OWN, MemoryEventStore(OWN), LoopClock(), folds=[routing.apply, health.apply, past.apply])
    await journal.open()
    journal.emit(offer(OWN))
    before = (routing.offers.copy(), routing.peers.copy(), health.snapshot().partition(b'"position"')[0], past.epoch)
    kinds = [kind for kind in FACTS if may_be_shared(kind.type)]
    payloads = [record_of(sample(kind), n, b"", origin=OTHER.peer_id).payload for n, kind in enumerate(kinds, 1)]
    batch = feed_of(OTHER, 1)[0][0]
    journal.admit(JournalReceived(batch=batch, carrier="c", held=0, size=0), payloads, subject="")
    after = (routing.offers.copy(), routing.peers.copy(), health.snapshot().partition(b'"position"')[0], past.epoch)
    assert after == before
    assert routing.position == journal.position == len(kinds) + 2
    await journal.close()


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(per_s=2.0, burst=10.0)
    assert [bucket.take(5, 0.0) for _ in range(3)] == [True, True, False]
    assert bucket.wait_s(4, 0.0) == 2.0
    assert not bucket.take(4, 1.9)
    assert bucket.take(4, 2.0)
    assert bucket.take(50, 100.0), "more than the burst is let through when it is full"
    assert not bucket.take(1, 101.0)
    buckets = Buckets(1.0, 1.0, remembered=2)
    assert buckets.of("a").take(1, 0.0)
    for peer in ("b", "a", "c"):
        buckets.of(peer)
    assert not buckets.of("a").take(1, 0.0)
