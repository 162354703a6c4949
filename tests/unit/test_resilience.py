"""Given a journal: who is left alone and for how long, who is tried again, what is paid for twice, who is too fresh."""

from typing import Any

import pytest

from mesh.events.envelope import Fact
from mesh.events.vocabulary.experts import ExpertEjected, ExpertReadmitted
from mesh.events.vocabulary.network import PeerRejoined
from mesh.events.vocabulary.requests import RequestDispatched, RequestHedged
from mesh.experts.budget import Work, withheld, worked
from mesh.experts.ejection import judge
from mesh.experts.hedging import ENOUGH, usual_p95_ms
from mesh.experts.known import Target
from mesh.experts.routing import decide
from mesh.experts.rules import Rules
from mesh.experts.state import RoutingState
from mesh.experts.tracks import Track, latency_at
from tests.kit.journals import EPOCH
from tests.unit.test_routing import answered, dispatched, failed, features, given, inputs, peer, reasons, received

RULES = Rules()
P = Target("p", "a")
FIVE = tuple(fact for name in "pqrst" for fact in peer(name))


def asked(name: str, times: int, *, fails: bool = False, ms: float = 10.0, start: int = 0) -> list[Fact]:
    """So many requests to a peer, one after another."""
    facts: list[Fact] = []
    for number in range(start, start + times):
        request = f"{name}-{number}"
        end = failed(request, name) if fails else answered(request, name, ms)
        facts += [received(request), dispatched(request, name), end]
    return facts


def others(times: int = 10, **how: Any) -> list[Fact]:
    return [fact for name in "qrst" for fact in asked(name, times, **how)]


def out(rule: str = "ejected", for_s: float = 5.0, times: int = 1) -> ExpertEjected:
    return ExpertEjected(peer="p", expert="a", rule=rule, detail="", for_s=for_s, times=times, as_of=1)


def verdict(*facts: Fact, rules: Rules = RULES) -> Any:
    return judge(given(*facts), P, rules)


# -- breaker ----------------------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_the_breaker() -> None:
    assert verdict(*FIVE, *asked("p", 4, fails=True)) is None
    found = verdict(*FIVE, *asked("p", 5, fails=True))
    assert (found.rule, found.for_s, found.times) == ("breaker_open", 5.0, 1)


def test_an_answer_in_between_keeps_it_closed() -> None:
    facts = [*asked("p", 4, fails=True), *asked("p", 1, start=4), *asked("p", 4, fails=True, start=5)]
    assert verdict(*peer("p"), *facts) is None
    assert verdict(*peer("p"), *asked("p", 9, fails=True), rules=Rules(breaker_failures=0)) is None


def test_what_a_caller_takes_back_or_asks_wrongly_opens_nothing() -> None:
    facts: list[Fact] = []
    for number, kind in enumerate(["cancelled", "invalid"] * 10):
        facts += [received(f"r{number}"), dispatched(f"r{number}", "p"), failed(f"r{number}", "p", kind)]
    assert verdict(*FIVE, *facts) is None


def test_each_time_in_a_row_is_twice_as_long_up_to_a_limit() -> None:
    story: list[Fact] = [*FIVE, *asked("p", 5, fails=True)]
    durations = []
    for number in range(8):
        found = verdict(*story)
        durations.append(found.for_s)
        story += [found, *asked("p", 1, fails=True, start=10 + number)]
    assert durations == [5, 10, 20, 40, 80, 160, 300, 300]


# -- outliers ---------------------------------------------------------------------------------------------------------


def test_who_fails_more_often_than_the_others_is_ejected() -> None:
    mixed = [fact for n in range(4) for fact in (*asked("p", 1, fails=True, start=n), *asked("p", 2, start=50 + 2 * n))]
    assert verdict(*FIVE, *others(), *mixed) is None  # its last outcome was an answer
    found = verdict(*FIVE, *others(), *mixed, *asked("p", 1, fails=True, start=9))
    assert (found.rule, "of its last 13 failed" in found.detail) == ("ejected", True)


def test_where_all_fail_alike_nobody_is_an_outlier() -> None:
    def half(name: str) -> list[Fact]:
        return [f for n in range(8) for f in (*asked(name, 1, start=n), *asked(name, 1, fails=True, start=50 + n))]

    assert verdict(*FIVE, *(fact for name in "qrst" for fact in half(name)), *half("p")) is None


def test_who_is_many_times_slower_than_the_others_is_ejected() -> None:
    assert verdict(*FIVE, *others(), *asked("p", 8, ms=79)) is None
    assert verdict(*FIVE, *others(), *asked("p", 8, ms=81)).detail == "it takes 81 ms, the others 10 ms"
    assert verdict(*FIVE, *others(), *asked("p", 8, ms=81), rules=Rules(eject_slower=0)) is None


def hedged(name: str, times: int) -> list[Fact]:
    facts: list[Fact] = []
    for number in range(times):
        request = f"late-{name}-{number}"
        facts += [received(request), dispatched(request, name), late(request), failed(request, name, "cancelled")]
    return facts


def late(request: str) -> RequestHedged:
    return RequestHedged(
        request=request, attempt=1, peer="p", expert="a", by_peer="q", by_expert="a", after_ms=20, p95_ms=20
    )


def test_who_is_late_half_of_the_time_is_ejected_though_nobody_waited_to_the_end() -> None:
    assert verdict(*FIVE, *others(), *hedged("p", 7)) is None
    assert verdict(*FIVE, *others(), *hedged("p", 8)).detail == "100% of its last 8 were late, of the others' 0%"


@pytest.mark.parametrize(("share", "ejects"), [(0.19, False), (0.2, True)])
def test_no_more_than_a_share_is_ejected(share: float, ejects: bool) -> None:
    found = verdict(*FIVE, *others(), *asked("p", 8, ms=900), rules=Rules(max_ejected=share))
    assert (found is not None) == ejects


def test_one_that_is_out_already_counts_in_the_share() -> None:
    q = ExpertEjected(peer="q", expert="a", rule="ejected", detail="", for_s=5, times=1, as_of=1)
    facts = [*FIVE, *others(), q, *asked("p", 8, ms=900)]
    assert verdict(*facts, rules=Rules(max_ejected=0.3)) is None
    assert verdict(*facts, rules=Rules(max_ejected=0.4)) is not None


# -- out, half open, back ---------------------------------------------------------------------------------------------


def at(state: RoutingState, name: str = "p") -> float:
    return state.track(Target(name, "a")).ejected_until


@pytest.mark.parametrize("rule", ["breaker_open", "ejected"])
def test_who_is_out_is_not_asked_until_the_time_is_over_and_then_first(rule: str) -> None:
    state = given(*FIVE, out(rule))
    before = decide(state, inputs(now=at(state) - 1))
    assert reasons(before) == {"p": rule}
    assert before.excluded[0].detail == "for 1.0 s more"
    for seed in range(5):
        after = decide(state, inputs(now=at(state), seed=seed))
        assert (after.chosen, after.ranking[0].note) == ((P,), "a probe: it was ejected")


def test_one_probe_at_a_time_and_never_by_a_second_attempt() -> None:
    state = given(*FIVE, out(), received("r"), dispatched("r", "p"))
    assert reasons(decide(state, inputs(now=at(state) + 1))) == {"p": "ejected"}
    state = given(*FIVE, out())
    for purpose in ("retry", "hedge", "moved"):
        assert reasons(decide(state, inputs(now=at(state) + 1, purpose=purpose))) == {"p": "ejected"}
    assert reasons(decide(state, inputs(now=at(state) + 1, k=3))) == {"p": "ejected"}


def test_a_probe_decides_and_what_was_under_way_before_does_not() -> None:
    known = [*FIVE, *others()]
    readmission = ExpertReadmitted(peer="p", expert="a", rule="ejected", as_of=0)
    back = verdict(*known, out(), received("r"), dispatched("r", "p"), answered("r", "p", 10.0))
    assert isinstance(back, ExpertReadmitted)
    assert verdict(*known, out(), received("r"), dispatched("r", "p"), answered("r", "p", 900.0)).times == 2
    assert verdict(*known, out(), received("r"), dispatched("r", "p"), late("r"), answered("r", "p", 70.0)).times == 2
    assert verdict(*known, out(), received("r"), dispatched("r", "p"), failed("r", "p")).for_s == 10.0
    assert verdict(*known, received("r"), dispatched("r", "p"), out(), answered("r", "p", 10.0)) is None
    state = given(*known, out(), readmission)
    assert reasons(decide(state, inputs(now=EPOCH + 1000))) == {}


def test_where_nobody_else_is_left_the_ejected_are_asked() -> None:
    state = given(*peer("p"), out())
    assert decide(state, inputs(now=at(state) - 1)).chosen == (P,)
    busy = given(*peer("p"), out("breaker_open"), received("r"), dispatched("r", "p"))
    assert reasons(decide(busy, inputs(now=at(busy) - 1))) == {"p": "breaker_open"}
    idle = given(*peer("p"), out("breaker_open"))
    assert decide(idle, inputs(now=at(idle) - 1)).chosen == (P,)


def test_who_fans_out_takes_the_ejected_where_it_is_short() -> None:
    state = given(*peer("p"), *peer("q"), *peer("r"), out("breaker_open"))
    assert len(decide(state, inputs(now=at(state) - 1, k=3)).chosen) == 3
    assert P not in decide(state, inputs(now=at(state) - 1, k=2)).chosen


def test_a_caller_that_names_the_peer_gets_it() -> None:
    state = given(*FIVE, out("breaker_open"), received("r"), dispatched("r", "p"))
    assert decide(state, inputs(now=at(state) - 1, peer="p")).chosen == (P,)


# -- budget -----------------------------------------------------------------------------------------------------------


def test_extra_work_is_a_share_of_the_requests_and_a_reserve() -> None:
    work = Work()
    for _ in range(100):
        worked(work, "first", EPOCH)
    for number in range(12):
        assert not withheld(work, "retry", EPOCH, share=0.1, reserve=2), number
        worked(work, "hedge", EPOCH)
    assert (
        withheld(work, "retry", EPOCH, share=0.1, reserve=2)
        == "the retry is over the budget: 12.0 of 12.0 a minute are used"
    )
    assert not withheld(work, "moved", EPOCH, share=0.1, reserve=2)
    assert not withheld(work, "first", EPOCH, share=0.1, reserve=2)
    assert not withheld(work, "hedge", EPOCH + 60, share=0.0, reserve=6)


def test_a_retry_over_the_budget_is_not_made_and_the_decision_says_so() -> None:
    extra: list[Fact] = []
    for number in range(20):
        dispatch = RequestDispatched(
            request=f"x{number}", attempt=1, peer="q", expert="a", timeout_ms=1, purpose="retry"
        )
        extra += [received(f"x{number}"), dispatch]
    state = given(*FIVE, *extra)
    decision = decide(state, inputs(now=EPOCH + 40, purpose="retry"))
    assert decision.chosen == ()
    assert decision.withheld.startswith("the retry is over the budget")
    assert decide(state, inputs(now=EPOCH + 40)).chosen


# -- hedging ----------------------------------------------------------------------------------------------------------


def test_lateness_is_what_nearly_all_answers_took_and_one_slow_peer_does_not_change_it() -> None:
    known = [f for name in "qrst" for n in range(20) for f in asked(name, 1, ms=10.0 + n, start=n)]
    state = given(*FIVE, *known, *asked("p", 20, ms=5000))
    assert usual_p95_ms(state, decide(state, inputs()).candidates) == 28.0
    few = given(*FIVE, *asked("q", ENOUGH - 1))
    assert usual_p95_ms(few, decide(few, inputs()).candidates) == -1.0


def test_being_taken_back_says_that_it_takes_longer() -> None:
    state = given(*peer("p"), *asked("p", 1, ms=10), received("r"), dispatched("r", "p"))
    assert state.track(P).latency_ms == 10.0
    state = given(
        *peer("p"),
        *asked("p", 1, ms=10),
        received("r"),
        dispatched("r", "p"),
        failed("r", "p", "cancelled", latency_ms=80),
    )
    assert state.track(P).latency_ms == 80.0
    assert state.track(P).success == 1.0
    assert latency_at(Track(), EPOCH, 7.0) == 7.0


# -- slow start -------------------------------------------------------------------------------------------------------


def test_a_fresh_expert_warms_up() -> None:
    state = given(*peer("p"))
    begun = EPOCH + 2
    assert [features(state, "p", now=begun + s).warm for s in (0, 5, 10, 99)] == [0.1, 0.55, 1.0, 1.0]


def test_one_that_was_silent_or_ejected_warms_up_again() -> None:
    assert (
        features(
            given((1, peer("p")[0]), (1, peer("p")[1]), (100, PeerRejoined(peer="p", away_s=9))), "p", now=EPOCH + 100
        ).warm
        == 0.1
    )
    back = ExpertReadmitted(peer="p", expert="a", rule="ejected", as_of=0)
    state = given((1, peer("p")[0]), (1, peer("p")[1]), (50, out()), (100, back))
    assert features(state, "p", now=EPOCH + 105).warm == 0.55
    assert features(state, "p", now=EPOCH + 105, rules=Rules(slow_start_s=0)).warm == 1.0


def test_offers_renewed_do_not_begin_anew() -> None:
    state = given((1, peer("p")[0]), (1, peer("p")[1]), (100, peer("p")[1]))
    assert features(state, "p", now=EPOCH + 101).warm == 1.0


def test_nobody_runs_to_a_fresh_peer() -> None:
    known = [fact for name in "qrst" for fact in asked(name, 3, ms=100)]
    begin = [(0.1 * n, fact) for n, fact in enumerate([*FIVE[2:], *known])]
    state = given(*begin, (100, peer("p")[0]), (100, peer("p")[1]))
    chosen = [decide(state, inputs(now=EPOCH + 100.5, seed=seed)).chosen[0].peer for seed in range(300)]
    assert chosen.count("p") == 0  # of any two the other one is cheaper
    chosen = [decide(state, inputs(now=EPOCH + 111, seed=seed)).chosen[0].peer for seed in range(300)]
    assert chosen.count("p") > 0
