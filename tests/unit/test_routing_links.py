"""Given what the health samples say of connections, when a request is routed, then the better connection counts."""

from typing import Any

import msgspec
import pytest

from mesh.events.envelope import Fact
from mesh.events.vocabulary.health import PeerSampled
from mesh.events.vocabulary.network import PeerDisconnected
from mesh.experts.candidates import Candidate, Features
from mesh.experts.explain import compare
from mesh.experts.links import MIN_DELIVERY, LinkQuality, delivery
from mesh.experts.policies.p2c_peak_ewma import cost
from mesh.experts.routing import RoutingDecision, decide, routed_fact
from mesh.experts.state import RoutingState
from tests.kit.asking import connected
from tests.kit.journals import EPOCH
from tests.unit.test_routing import features, given, inputs, measured, peer, registered, share


def sampled(name: str, **figures: Any) -> Fact:
    values = {"latency_ms": 1.0, "jitter_ms": 0.0, "loss": 0.0, "throughput_bytes_s": 10.0} | figures
    return PeerSampled(
        peer=name,
        request_latency_ms=-1.0,
        requests=0,
        success_rate=-1.0,
        experts_offered=1,
        experts_available=1,
        **values,
    )


def both(*facts: Fact) -> RoutingState:
    """Two peers that answered equally fast, and what was sampled of them."""
    return given(*peer("good"), *peer("bad"), *measured("good", 50.0), *measured("bad", 50.0), *facts)


@pytest.mark.parametrize("policy", ["p2c_peak_ewma", "weighted"])
@pytest.mark.parametrize("worse", [{"loss": 0.2}, {"jitter_ms": 400.0}])
def test_of_two_equals_the_one_with_the_better_connection_is_asked(policy: str, worse: dict[str, float]) -> None:
    now = EPOCH + 20
    state = both(sampled("good"), sampled("bad", **worse))
    chosen = {decide(state, inputs(policy=policy, seed=seed, now=now)).chosen[0].peer for seed in range(40)}
    assert chosen == {"good"}


def test_the_far_one_is_expected_to_take_longer_where_nothing_was_asked_yet() -> None:
    state = given(*peer("near"), *peer("far"), sampled("near", latency_ms=2.0), sampled("far", latency_ms=300.0))
    assert features(state, "far").latency_ms - features(state, "near").latency_ms == pytest.approx(298.0)
    assert share(state, "weighted", "near") == 1.0


def test_what_an_answer_took_holds_its_round_trip_already() -> None:
    state = given(*peer("far"), *measured("far", 350.0), *peer("new"), sampled("far", latency_ms=300.0))
    assert features(state, "far", now=EPOCH + 8).latency_ms == pytest.approx(350.0, abs=1.0)
    assert features(state, "new").latency_ms == pytest.approx(50.0)


def test_a_new_connection_begins_without_figures_and_counts_a_little_less() -> None:
    again = [PeerDisconnected(peer="bad", connection="c", reason="reset", lasted_s=1.0), connected("bad")]
    state = both(sampled("good"), sampled("bad", loss=0.5), *again)
    link = features(state, "bad", now=EPOCH + 20).link
    assert (link.rtt_ms, link.loss, link.throughput_bytes_s) == (-1.0, -1.0, -1.0)
    assert 0 <= link.age_s < features(state, "good", now=EPOCH + 20).link.age_s
    assert delivery(LinkQuality(age_s=0.0)) == pytest.approx(0.9)
    assert delivery(LinkQuality(age_s=10.0)) == delivery(LinkQuality()) == 1.0


def test_throughput_is_shown_and_not_weighed() -> None:
    busy, idle = (LinkQuality(throughput_bytes_s=carried) for carried in (1e9, 0.0))
    assert delivery(busy) == delivery(idle)
    assert features(both(sampled("good", throughput_bytes_s=7.5)), "good").link.throughput_bytes_s == 7.5


def test_a_request_and_its_answer_both_have_to_get_through() -> None:
    assert delivery(LinkQuality(loss=0.1)) == pytest.approx(0.81)
    assert delivery(LinkQuality(loss=1.0)) == MIN_DELIVERY


def test_this_node_has_no_way_to_itself() -> None:
    own = features(given(registered()), "us").link
    assert (own.rtt_ms, own.jitter_ms, own.loss, delivery(own)) == (0.0, 0.0, 0.0, 1.0)


def test_cost_is_the_documented_formula() -> None:
    state = both(sampled("good", jitter_ms=10.0, loss=0.1))
    seen = features(state, "good", now=EPOCH + 1000)
    assert cost(seen) == pytest.approx((seen.latency_ms + 10.0) / (0.81 * (0.5 + seen.quality)))


def test_a_decision_recorded_before_connections_were_weighed_is_read_and_not_compared() -> None:
    state = both()
    made = decide(state, inputs(policy_version=1))
    old = [
        Candidate(peer=one.peer, expert=one.expert, model=one.model, features=without_link(one.features))
        for one in made.candidates
    ]
    recorded = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(made, candidates=tuple(old))))
    for one in recorded["candidates"]:
        del one["features"]["link"]
    fact = msgspec.structs.replace(
        routed_fact(inputs(policy_version=1), made, 1), decision=msgspec.Raw(msgspec.json.encode(recorded))
    )
    assert compare(state, fact) == "not comparable: p2c_peak_ewma was version 1 then and is 3 now"
    assert msgspec.json.decode(fact.decision, type=RoutingDecision).candidates[0].features.link == LinkQuality()


def without_link(features: Features) -> Features:
    return msgspec.structs.replace(features, link=LinkQuality())
