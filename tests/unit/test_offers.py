"""How nodes learn what others serve, over the memory overlay."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesh.errors import PeerMisbehaved
from mesh.events.vocabulary.experts import ExpertExpired, ExpertOffered
from mesh.events.vocabulary.network import PeerDisconnected
from mesh.experts.known import Offer
from mesh.experts.offer_news import is_news
from mesh.experts.wire_offers import MAX_OFFERS, MAX_OFFERS_BYTES, decode_offers, encode_offers
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.asking import offered, says
from tests.kit.peer_nodes import until
from tests.kit.whole_nodes import WholeNode, meet

looptime = pytest.mark.looptime


@asynccontextmanager
async def pair(interval_s: float = 10.0) -> AsyncIterator[tuple[MemoryNetwork, WholeNode, WholeNode]]:
    network = MemoryNetwork()
    one = WholeNode(network, 1, {}, interval_s=interval_s)
    other = WholeNode(network, 2, {"a": says("x"), "b": says("y")}, interval_s=interval_s)
    nodes = [await one.start(), await other.start()]
    try:
        yield network, one, other
    finally:
        for node in nodes:
            await node.stop()


async def facts(node: WholeNode, kind: type) -> list[object]:
    return [event.fact for event in await node.events() if isinstance(event.fact, kind)]


@looptime
async def test_offers_are_pulled_as_soon_as_a_peer_is_connected() -> None:
    async with pair(interval_s=3600) as (_, one, other):
        started = one.clock.monotonic()
        await meet(one, other)
        assert one.clock.monotonic() - started < 2
        assert one.knows(other) == {"a", "b"}


@looptime
async def test_an_offer_that_stays_the_same_is_an_event_only_to_stay_valid() -> None:
    async with pair(interval_s=10) as (_, one, other):
        await meet(one, other)
        before = len(await facts(one, ExpertOffered))
        await asyncio.sleep(600)
        renewed = len(await facts(one, ExpertOffered)) - before
        assert 14 <= renewed <= 20  # two experts, each about every 70 s
        assert one.knows(other) == {"a", "b"}


@looptime
async def test_a_peer_that_is_gone_offers_nothing() -> None:
    async with pair() as (network, one, other):
        await meet(one, other)
        network.kill(other.id)
        await until(lambda: not one.knows(other))
        assert await facts(one, PeerDisconnected)
        reasons = {fact.reason for fact in await facts(one, ExpertExpired) if fact.peer == other.id}  # type: ignore[attr-defined]
        assert reasons == {"the peer is not connected"}


@looptime
async def test_what_is_no_longer_served_is_withdrawn_soon() -> None:
    async with pair() as (_, one, other):
        await meet(one, other)
        await other.experts.stop()
        await until(lambda: not one.knows(other), within=5)


@looptime
async def test_an_expert_that_cannot_work_is_known_to_others_within_seconds() -> None:
    async with pair(interval_s=3600) as (_, one, other):
        await meet(one, other)
        await asyncio.sleep(5)
        other.experts._experts["a"].problem = "its engine is down"
        other.experts._tell()
        await until(lambda: not one.state.offers[other.id]["a"].available, within=5)


@looptime
async def test_gossip_of_a_stranger_is_not_believed() -> None:
    async with pair() as (_, one, other):
        one.offers.heard(other.id, encode_offers(other.id, [offered(other.id, "z")], 60.0))
        assert one.knows(other) == set()


@looptime
async def test_a_peer_that_changes_its_mind_all_the_time_does_not_fill_the_journal() -> None:
    async with pair() as (_, one, other):
        await meet(one, other)
        await asyncio.sleep(2)
        before = one.journal.position
        for number in range(1000):
            offer = offered(other.id, f"e{number}", quality=(number % 10) / 10)
            one.offers.heard(other.id, encode_offers(other.id, [offer], 60.0))
        assert one.journal.position - before <= 4


@looptime
async def test_this_nodes_own_load_reaches_its_journal() -> None:
    async with pair() as (_, _one, other):
        await until(lambda: "a" in other.state.offers.get(other.id, {}))
        other.experts._experts["a"].slots.in_flight  # noqa: B018 - exists
        offers = [offered(other.id, "a", concurrency=4, queue_limit=64, in_flight=4, queued=30)]
        other.experts.offers = lambda: offers  # type: ignore[method-assign]
        await until(lambda: other.state.offers[other.id]["a"].queued == 30, within=5)


def test_offers_about_another_peer_are_refused() -> None:
    with pytest.raises(PeerMisbehaved) as fault:
        decode_offers("them", encode_offers("me", [offered("me", "a")], 60.0))
    assert fault.value.rule == "offers_of_another"


@pytest.mark.parametrize(
    "change",
    [
        {"peer": 5},
        {"valid_s": 0},
        {"valid_s": 1e9},
        {"valid_s": "60"},
        {"offers": None},
        {"offers": [{}]},
        {"offers": [{"expert": "a", "domains": [], "concurrency": 1}]},
        {"offers": [{"expert": "../a", "domains": ["x"], "concurrency": 1}]},
        {"offers": [{"expert": "a", "domains": ["x"] * 17, "concurrency": 1}]},
        {"offers": [{"expert": "a", "domains": ["x"], "concurrency": 0}]},
        {"offers": [{"expert": "a", "domains": ["x"], "concurrency": 1, "quality": 7}]},
        {"offers": [{"expert": "a", "domains": ["x"], "concurrency": 1, "in_flight": -1}]},
        {"offers": [{"expert": "a", "domains": ["x"], "concurrency": 1, "model": "m" * 129}]},
        {"offers": [{"expert": "a", "domains": ["x"], "concurrency": 1}] * 2},
        {"offers": [{"expert": f"e{n}", "domains": ["x"], "concurrency": 1} for n in range(MAX_OFFERS + 1)]},
    ],
)
def test_malformed_offers_are_the_peers_fault(change: dict[str, object]) -> None:
    good = {"peer": "p", "valid_s": 60, "offers": [{"expert": "a", "domains": ["x"], "concurrency": 1}]}
    assert decode_offers("p", json.dumps({**good, "later": 1}).encode())[0].expert == "a"
    with pytest.raises(PeerMisbehaved):
        decode_offers("p", json.dumps({**good, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"{", b"[" * 20_000, b" " * (MAX_OFFERS_BYTES + 1)])
def test_bytes_that_are_no_offers_are_the_peers_fault(data: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        decode_offers("p", data)


def test_what_we_say_never_breaks_the_limits_that_we_set() -> None:
    many = [offered("p", f"e{n}", model="é" * 128, domains=tuple(f"d{m}" * 15 for m in range(16))) for n in range(200)]
    data = encode_offers("p", many, 60.0)
    assert len(data) <= MAX_OFFERS_BYTES
    assert len(decode_offers("p", data)) > 5


KNOWN = Offer(model="m", domains=("language",), concurrency=64, queue_limit=64, offered_at=100.0, expires_at=160.0)


@pytest.mark.parametrize(
    ("change", "now", "news"),
    [
        ({}, 110.0, False),
        ({"in_flight": 5}, 110.0, False),
        ({"in_flight": 30}, 110.0, True),
        ({"in_flight": 64}, 110.0, True),
        ({"available": False}, 110.0, True),
        ({"quality": 0.6}, 110.0, True),
        ({"model": "n"}, 110.0, True),
        ({"domains": ("language", "coding")}, 110.0, True),
        ({"concurrency": 65}, 110.0, True),
        ({}, 131.0, True),
    ],
)
def test_what_is_news(change: dict[str, object], now: float, news: bool) -> None:
    assert is_news(KNOWN, offered("p", "a", **change), now) is news
    assert is_news(None, offered("p", "a"), now)
