"""Given a journal, when a request is routed, then these are chosen, and these are not, and why."""

from typing import Any

import pytest

from mesh.events.envelope import Fact
from mesh.events.vocabulary.experts import ExpertDeregistered, ExpertExpired, ExpertRegistered
from mesh.events.vocabulary.health import StatusChanged
from mesh.events.vocabulary.network import PeerConfirmedDown, PeerDisconnected, PeerRejoined, PeerSuspected
from mesh.events.vocabulary.node import NodeStarted
from mesh.events.vocabulary.requests import (
    RequestAnswered,
    RequestAttemptFailed,
    RequestCancelled,
    RequestDispatched,
    RequestReceived,
)
from mesh.experts.candidates import MAX_CANDIDATES, RoutingInputs
from mesh.experts.known import Target
from mesh.experts.policies import POLICIES
from mesh.experts.routing import RoutingDecision, decide
from mesh.experts.state import REMEMBERED, RoutingState, fold
from tests.kit.asking import connected, offered
from tests.kit.journals import EPOCH, history

US = "us"


def inputs(**changes: Any) -> RoutingInputs:
    fields: dict[str, Any] = {
        "request": "r",
        "attempt": 1,
        "domain": "language",
        "domain_by": "caller",
        "expert": "",
        "peer": "",
        "strategy": "best_peer",
        "policy": "p2c_peak_ewma",
        "k": 1,
        "excluded": (),
        "scope": "any",
        "spread": False,
        "now": EPOCH + 1000,
        "seed": 42,
        "local": US,
    }
    asked = {**fields, **changes}
    version = {policy.name: policy.version for policy in POLICIES}.get(asked["policy"], 0)
    return RoutingInputs(**{"policy_version": version, **asked})


def given(*facts: Fact | tuple[float, Fact]) -> RoutingState:
    return fold(US, history(US, facts))


def peer(name: str, **offer: Any) -> tuple[Fact, ...]:
    return connected(name), offered(name, "a", **offer)


def registered(expert: str = "own", domains: tuple[str, ...] = ("language",)) -> Fact:
    return ExpertRegistered(expert=expert, backend="python", model="m", domains=domains, concurrency=1, queue_limit=1)


def received(request: str) -> Fact:
    return RequestReceived(
        request=request,
        caller="c",
        domain="language",
        strategy="best_peer",
        policy="p2c_peak_ewma",
        fan_out=1,
        timeout_ms=1000,
        content_digest="",
        content_bytes=1,
    )


def dispatched(request: str, to: str, attempt: int = 1, expert: str = "a") -> Fact:
    return RequestDispatched(request=request, attempt=attempt, peer=to, expert=expert, timeout_ms=1000)


def answered(request: str, by: str, latency_ms: float, attempt: int = 1) -> Fact:
    return RequestAnswered(
        request=request,
        attempt=attempt,
        peer=by,
        expert="a",
        model="m",
        latency_ms=latency_ms,
        first_token_ms=-1.0,
        tokens_in=-1,
        tokens_out=-1,
        answer_bytes=1,
        answer_digest="",
        signature="",
    )


def failed(request: str, by: str, kind: str = "failed", attempt: int = 1, latency_ms: float = 5.0) -> Fact:
    return RequestAttemptFailed(
        request=request,
        attempt=attempt,
        peer=by,
        expert="a",
        kind=kind,
        message="",
        retryable=True,
        latency_ms=latency_ms,
    )


def measured(name: str, latency_ms: float, request: str = "") -> tuple[Fact, ...]:
    request = request or f"r-{name}-{latency_ms}"
    return received(request), dispatched(request, name), answered(request, name, latency_ms)


def reasons(decision: RoutingDecision) -> dict[str, str]:
    return {one.peer: one.reason for one in decision.excluded}


def test_nobody_offers_anything() -> None:
    decision = decide(given(), inputs())
    assert (decision.chosen, decision.candidates, decision.excluded) == ((), (), ())


def test_who_serves_something_else_is_only_counted() -> None:
    decision = decide(given(*peer("p", domains=("coding",))), inputs())
    assert (decision.chosen, decision.other_domains) == ((), 1)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ([PeerDisconnected(peer="p", connection="c", reason="reset", lasted_s=1)], "not_connected"),
        ([PeerSuspected(peer="p", phi=9.0, silent_s=2)], "suspected"),
        ([PeerConfirmedDown(peer="p", reason="silent", silent_s=5)], "down"),
        ([offered("p", "a", valid_s=10.0)], "offer_expired"),
        ([offered("p", "a", available=False)], "unavailable"),
        ([offered("p", "a", concurrency=2, queue_limit=1, in_flight=2, queued=1)], "overloaded"),
        ([NodeStarted(epoch=2, name="", release="", resumed_from=0, clean=False), offered("p", "a")], "not_connected"),
    ],
)
def test_who_cannot_answer_is_excluded_with_the_reason(facts: list[Fact], reason: str) -> None:
    decision = decide(given(*peer("p"), *facts), inputs())
    assert decision.chosen == ()
    assert reasons(decision) == {"p": reason}


def test_liveness_comes_before_load() -> None:
    """A dead peer looks idle. It is excluded for being dead, whatever its load says."""
    full = offered("p", "a", concurrency=1, queue_limit=0, in_flight=1)
    state = given(connected("p"), full, PeerConfirmedDown(peer="p", reason="silent", silent_s=5))
    assert reasons(decide(state, inputs())) == {"p": "down"}


@pytest.mark.parametrize("back", [PeerRejoined(peer="p", away_s=3.0), connected("p")])
def test_a_peer_that_is_heard_of_again_is_a_candidate_again(back: Fact) -> None:
    state = given(*peer("p"), PeerConfirmedDown(peer="p", reason="silent", silent_s=5), back)
    assert decide(state, inputs()).chosen == (Target("p", "a"),)


def test_an_offer_that_expired_or_was_withdrawn_is_gone() -> None:
    state = given(*peer("p"), ExpertExpired(peer="p", expert="a", reason="withdrawn"))
    assert decide(state, inputs()).chosen == ()
    state = given(registered(), ExpertDeregistered(expert="own", reason="off"))
    assert decide(state, inputs()).chosen == ()


def test_this_node_is_a_candidate_like_others_without_a_connection() -> None:
    assert decide(given(registered()), inputs()).chosen == (Target(US, "own"),)


def test_who_was_tried_is_not_asked_again() -> None:
    state = given(*peer("p"), *peer("q"))
    decision = decide(state, inputs(excluded=(Target("p", "a"),)))
    assert decision.chosen == (Target("q", "a"),)
    assert reasons(decision) == {"p": "already_tried"}


def test_an_expert_by_name_needs_no_domain() -> None:
    state = given(*peer("p", domains=("coding",)), connected("q"), offered("q", "b"))
    assert decide(state, inputs(expert="a", domain="")).chosen == (Target("p", "a"),)
    assert decide(state, inputs(expert="a", domain="language")).chosen == ()


def test_spread_takes_one_expert_of_each_peer() -> None:
    state = given(*peer("p"), offered("p", "b"), *peer("q"))
    chosen = decide(state, inputs(k=3, spread=True)).chosen
    assert sorted(target.peer for target in chosen) == ["p", "q"]
    assert len(decide(state, inputs(k=3)).chosen) == 3


def test_what_a_stranger_reports_of_others_is_not_believed() -> None:
    events = history("someone else", [*peer("p")])
    state = fold(US, events)
    assert decide(state, inputs()).chosen == ()
    assert state.position == 2


def test_a_decision_stays_small_in_a_large_mesh() -> None:
    state = given(*(fact for number in range(500) for fact in peer(f"p{number:03d}")))
    decision = decide(state, inputs())
    assert len(decision.candidates) == MAX_CANDIDATES
    assert decision.not_listed == 500 - MAX_CANDIDATES
    seen = {one.peer for seed in range(60) for one in decide(state, inputs(seed=seed)).candidates}
    assert len(seen) > 450


# -- features -------------------------------------------------------------------------------------------------------


def features(state: RoutingState, name: str, **changes: Any) -> Any:
    return next(one.features for one in decide(state, inputs(**changes)).candidates if one.peer == name)


def test_requests_in_flight_come_and_go() -> None:
    start = [*peer("p"), received("r1"), received("r2"), dispatched("r1", "p"), dispatched("r2", "p")]
    assert features(given(*start), "p").in_flight == 2
    assert features(given(*start, answered("r1", "p", 5.0)), "p").in_flight == 1
    cancelled = RequestCancelled(request="r2", reason="", latency_ms=1.0)
    assert features(given(*start, answered("r1", "p", 5.0), cancelled), "p").in_flight == 0
    assert features(given(*start, answered("r1", "p", 5.0), answered("r1", "p", 5.0)), "p").in_flight == 1


def test_load_of_others_does_not_count_ours_twice() -> None:
    ours = [received("r1"), dispatched("r1", "p")]
    state = given(*peer("p"), *ours, offered("p", "a", in_flight=3, queued=2))
    assert (features(state, "p").in_flight, features(state, "p").others) == (1, 4)


def test_latency_follows_a_peak_at_once_and_recovers_by_and_by() -> None:
    slow = given(*peer("p"), *measured("p", 100.0), *measured("p", 900.0))
    assert slow.track(Target("p", "a")).latency_ms == 900.0
    better = given(*peer("p"), *measured("p", 900.0), *measured("p", 100.0))
    assert 700 < better.track(Target("p", "a")).latency_ms < 900


def test_what_is_known_of_speed_fades_to_the_median() -> None:
    state = given(
        *peer("p"), *peer("q"), *peer("r"), *measured("p", 100.0), *measured("q", 500.0), *measured("r", 9000.0)
    )
    now = EPOCH + 20
    assert features(state, "r", now=now).latency_ms > 6000
    assert features(state, "r", now=now + 600).latency_ms == pytest.approx(500.0, abs=1.0)


def test_a_fresh_peer_is_expected_to_be_as_fast_as_the_median() -> None:
    state = given(*peer("new"), *peer("p"), *measured("p", 80.0))
    assert (features(state, "new").latency_ms, features(state, "new").measured) == (80.0, False)


def test_failures_count_and_are_forgotten() -> None:
    state = given(*peer("p"), received("r1"), dispatched("r1", "p"), failed("r1", "p"))
    now = EPOCH + 6
    assert features(state, "p", now=now).success == pytest.approx(0.8, abs=0.01)
    assert features(state, "p", now=now + 600).success == 1.0
    assert state.track(Target("p", "a")).consecutive_failures == 1


@pytest.mark.parametrize("kind", ["cancelled", "invalid"])
def test_what_is_not_the_experts_fault_does_not_count(kind: str) -> None:
    state = given(*peer("p"), received("r1"), dispatched("r1", "p"), failed("r1", "p", kind))
    assert features(state, "p").success == 1.0


def test_a_deadline_that_passed_counts_as_slowness() -> None:
    state = given(*peer("p"), received("r1"), dispatched("r1", "p"), failed("r1", "p", "expired", latency_ms=60_000.0))
    assert state.track(Target("p", "a")).latency_ms == 60_000.0


def test_a_restart_forgets_connections_and_attempts_but_not_speeds() -> None:
    state = given(
        *peer("p"),
        *measured("p", 50.0),
        received("r"),
        dispatched("r", "p"),
        NodeStarted(epoch=2, name="", release="", resumed_from=0, clean=False),
    )
    assert state.attempts_in_flight() == 0
    assert "r" in state.in_flight()
    assert state.track(Target("p", "a")).latency_ms == 50.0
    assert not state.offers


def test_a_state_with_attempts_in_flight_has_a_digest() -> None:
    facts = [*peer("p"), received("r"), dispatched("r", "p")]
    assert given(*facts).digest() == given(*facts).digest() != given(*facts[:-1]).digest()


def test_memory_of_peers_is_bounded() -> None:
    facts: list[Fact] = []
    for number in range(REMEMBERED + 10):
        name = f"p{number}"
        facts += [
            connected(name),
            *measured(name, 5.0),
            PeerDisconnected(peer=name, connection="c", reason="", lasted_s=0),
        ]
    state = given(*facts)
    assert len(state.peers) == len(state.tracks) == REMEMBERED
    assert "p0" not in state.peers
    assert f"p{REMEMBERED + 9}" in state.tracks


# -- policies -------------------------------------------------------------------------------------------------------


def share(state: RoutingState, policy: str, name: str, rounds: int = 400) -> float:
    chosen = [decide(state, inputs(policy=policy, seed=seed)).chosen[0].peer for seed in range(rounds)]
    return chosen.count(name) / rounds


def test_p2c_prefers_the_faster_of_two_and_never_takes_the_worst_of_three() -> None:
    state = given(
        *peer("fast"),
        *peer("mid"),
        *peer("slow"),
        *measured("fast", 10.0),
        *measured("mid", 100.0),
        *measured("slow", 900.0),
    )
    now = EPOCH + 20
    chosen = [decide(state, inputs(seed=seed, now=now)).chosen[0].peer for seed in range(400)]
    assert chosen.count("fast") / 400 == pytest.approx(2 / 3, abs=0.08)
    assert chosen.count("slow") == 0


def test_p2c_counts_what_is_pending() -> None:
    busy = [fact for number in range(20) for fact in (received(f"r{number}"), dispatched(f"r{number}", "p"))]
    state = given(*peer("p"), *peer("q"), *measured("p", 10.0), *measured("q", 100.0), *busy)
    assert share(state, "p2c_peak_ewma", "p") == 0.0


def test_p2c_neither_floods_nor_starves_a_fresh_peer() -> None:
    old = [fact for name in "abcd" for fact in (*peer(name), *measured(name, 100.0))]
    state = given(*old, *peer("fresh"))
    assert 0.05 < share(state, "p2c_peak_ewma", "fresh") < 0.6


@pytest.mark.parametrize("policy", ["p2c_peak_ewma", "weighted"])
def test_the_ill_are_spared(policy: str) -> None:
    ill = StatusChanged(target="p", target_kind="peer", previous="good", status="critical", score=0.1, factors={})
    assert share(given(*peer("p"), *peer("q"), ill), policy, "p") == 0.0


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"quality": 1.0}, {"quality": 0.0}),
        ({"in_flight": 0}, {"in_flight": 60}),
    ],
)
@pytest.mark.parametrize("policy", ["p2c_peak_ewma", "weighted"])
def test_what_is_better_in_one_thing_wins(policy: str, better: dict[str, Any], worse: dict[str, Any]) -> None:
    assert share(given(*peer("good", **better), *peer("bad", **worse)), policy, "good") == 1.0


def test_weighted_gives_the_documented_score() -> None:
    state = given(*peer("p", quality=0.5, concurrency=10, queue_limit=0, in_flight=5))
    ranked = decide(state, inputs(policy="weighted")).ranking[0]
    assert ranked.score == pytest.approx(0.3 * 0.5 + 0.3 * 0.5 + 0.3 * 1.0 + 0.1 * 0.5)


def test_round_robin_takes_turns() -> None:
    facts: list[Fact] = [*peer("a"), *peer("b"), *peer("c")]
    turns = []
    for number in range(9):
        name = decide(given(*facts), inputs(policy="round_robin", seed=number)).chosen[0].peer
        turns.append(name)
        facts += measured(name, 5.0, f"r{number}")
    assert sorted(turns[:3]) == ["a", "b", "c"]
    assert turns == turns[:3] * 3


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(LookupError, match="'luck' is not a policy; there are p2c_peak_ewma"):
        decide(given(), inputs(policy="luck"))
