"""The policies that have a favourite of their own, and when they look further."""

from collections import Counter
from typing import Any

import pytest

from mesh.events.vocabulary.health import PeerSampled, StatusChanged
from mesh.experts.policies import POLICIES
from mesh.experts.routing import decide
from tests.unit.test_routing import given, inputs, peer, share

MANY = [f"p{number}" for number in range(8)]
MESH = [fact for name in MANY for fact in peer(name)]


def first(*facts: Any, **changes: Any) -> str:
    return decide(given(*facts), inputs(**changes)).chosen[0].peer


def far(name: str, rtt_ms: float) -> PeerSampled:
    return PeerSampled(
        peer=name,
        latency_ms=rtt_ms,
        jitter_ms=0,
        loss=0,
        request_latency_ms=-1,
        requests=0,
        success_rate=-1,
        throughput_bytes_s=0,
        experts_offered=1,
        experts_available=1,
    )


def critical(name: str) -> StatusChanged:
    return StatusChanged(target=name, target_kind="peer", previous="good", status="critical", score=0.1, factors={})


def ill(name: str, policy: str, **more: Any) -> str:
    return first(*MESH, critical(name), policy=policy, **more)


@pytest.mark.parametrize("policy", [policy.name for policy in POLICIES])
def test_every_policy_ranks_every_candidate_once(policy: str) -> None:
    decision = decide(given(*MESH), inputs(policy=policy, conversation="c"))
    assert sorted(one.peer for one in decision.ranking) == MANY


def test_the_least_busy_comes_first_and_equals_share() -> None:
    busy = [fact for n, name in enumerate("abc") for fact in peer(name, in_flight=n)]
    assert share(given(*busy), "least_in_flight", "a") == 1.0
    even = given(*peer("a"), *peer("b"))
    assert share(even, "least_in_flight", "a") == pytest.approx(0.5, abs=0.1)


def homes(names: list[str], conversations: int = 400) -> dict[int, str]:
    state = given(*(fact for name in names for fact in peer(name)))
    return {
        n: decide(state, inputs(policy="sticky", conversation=f"c{n}", seed=n)).chosen[0].peer
        for n in range(conversations)
    }


def test_a_conversation_stays_and_conversations_spread() -> None:
    assert homes(MANY) == homes(MANY)
    counts = Counter(homes(MANY).values())
    assert set(counts) == set(MANY)
    assert max(counts.values()) < 2 * min(counts.values()) + 20


def test_an_expert_that_goes_moves_only_its_own_conversations() -> None:
    before, after = homes(MANY), homes(MANY[1:])
    assert all(after[n] == home for n, home in before.items() if home != MANY[0])
    assert len({after[n] for n, home in before.items() if home == MANY[0]}) > 4


def test_a_conversation_breaks_away_from_one_that_is_busy_full_or_ill_to_the_same_next_one() -> None:
    home = first(*MESH, policy="sticky", conversation="c")
    rest = [fact for name in MANY if name != home for fact in peer(name)]
    following = {
        first(*rest, *peer(home, in_flight=3), policy="sticky", conversation="c", seed=1),
        first(*rest, *peer(home, concurrency=1, queue_limit=1, in_flight=1), policy="sticky", conversation="c"),
        ill(home, "sticky", conversation="c"),
        first(*rest, policy="sticky", conversation="c"),
    }
    assert len(following) == 2  # half full with one pending is no reason
    assert first(*rest, *peer(home, in_flight=1), policy="sticky", conversation="c") == home
    assert first(*rest, *peer(home, in_flight=3), policy="sticky", conversation="c") != home
    assert ill(home, "sticky", conversation="c") == first(*rest, policy="sticky", conversation="c")


def test_without_a_conversation_sticky_spreads_requests() -> None:
    assert len({first(*MESH, policy="sticky", seed=seed) for seed in range(50)}) > 4


def test_the_nearest_comes_first_until_it_is_full() -> None:
    distant = [far(name, 4.0 if name == "p3" else 60.0) for name in MANY]
    assert {first(*MESH, *distant, policy="latency_aware", seed=seed) for seed in range(20)} == {"p3"}
    decision = decide(given(*MESH, *distant), inputs(policy="latency_aware"))
    assert [one.note for one in decision.ranking] == ["site", *["continent"] * 7]
    full = peer("p3", concurrency=10, queue_limit=0, in_flight=8)
    assert first(*MESH, *full, *distant, policy="latency_aware") != "p3"
    assert ill("p3", "latency_aware") != "p3"


def test_the_cheapest_comes_first_until_it_is_full() -> None:
    priced = [fact for n, name in enumerate(MANY) for fact in peer(name, price=n // 2)]
    assert {first(*priced, policy="cost_aware", seed=seed) for seed in range(30)} == {"p0", "p1"}
    full = [*priced, *peer("p0", concurrency=10, queue_limit=0, in_flight=9), critical("p1")]
    assert {first(*full, policy="cost_aware", seed=seed) for seed in range(30)} == {"p2", "p3"}
    scores = [one.score for one in decide(given(*priced), inputs(policy="cost_aware")).ranking]
    assert scores == [0, 0, 1, 1, 2, 2, 3, 3]
