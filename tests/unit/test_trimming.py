"""Given who is connected, when there are too many, then the least useful go, and nobody who is needed."""

import pytest

from mesh.p2p.trimming import RECENT_S, Standing, Use, parts, plan, protection, score, sole_domains


def standing(peer: str = "p", connected_s: float = 1000.0, **figures: float) -> Standing:
    return Standing(peer=peer, connected_s=connected_s, **figures)  # type: ignore[arg-type]


def crowd(count: int, **figures: float) -> list[Standing]:
    return [standing(f"p{number:03}", **figures) for number in range(count)]


def gone(standings: list[Standing], low: int, high: int, grace_s: float = 30.0) -> list[str]:
    found = plan(standings, low=low, high=high, grace_s=grace_s)
    return [one.peer for one, _ in found.trimmed] if found is not None else []


def test_nobody_goes_up_to_the_high_water() -> None:
    assert plan(crowd(10), low=5, high=10, grace_s=30) is None


def test_above_it_so_many_go_that_the_low_water_is_left() -> None:
    found = plan(crowd(11), low=5, high=10, grace_s=30)
    assert found is not None
    assert (len(found.trimmed), found.remaining, found.protected) == (6, 5, {})


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"static": True}, "static"),
        ({"in_flight": 1}, "in_flight"),
        ({"sole_domains": 1}, "sole_domain"),
        ({"answered_s": RECENT_S - 1}, "recent"),
        ({"connected_s": 29.0}, "new"),
        ({"answered_s": RECENT_S}, ""),
        ({"connected_s": 30.0}, ""),
        ({}, ""),
    ],
)
def test_who_is_needed_stays_and_the_reason_is_told(figures: dict[str, float], reason: str) -> None:
    needed = standing("needed", **figures)
    assert protection(needed, 30.0) == reason
    found = plan([*crowd(10), needed], low=0, high=5, grace_s=30)
    assert found is not None
    assert ("needed" in [one.peer for one, _ in found.trimmed]) == (not reason)
    assert found.protected == ({reason: 1} if reason else {})


def test_where_all_are_needed_nobody_goes() -> None:
    assert plan(crowd(10, in_flight=1), low=1, high=5, grace_s=30) is None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"answered_s": 400.0}, {"answered_s": 4000.0}),
        ({"answered_s": 4000.0}, {}),
        ({"domains": 2}, {"domains": 1}),
        ({"domains": 1}, {"domains": 0}),
        ({"rtt_ms": 5.0}, {"rtt_ms": 500.0}),
        ({"rtt_ms": 5.0}, {}),
        ({"loss": 0.0}, {"loss": 0.3}),
        ({"connected_s": 5000.0}, {"connected_s": 50.0}),
    ],
)
def test_what_is_better_in_one_thing_stays(better: dict[str, float], worse: dict[str, float]) -> None:
    two = [standing("better", **better), standing("worse", **worse)]
    assert gone(two, low=1, high=1) == gone(two[::-1], low=1, high=1) == ["worse"]


def test_the_least_useful_goes_first_and_equals_in_a_fixed_order() -> None:
    assert gone([standing("c"), standing("a"), standing("b", domains=1)], low=0, high=1) == ["a", "c", "b"]


def test_the_score_is_the_sum_of_its_parts_between_0_and_1() -> None:
    best = standing(answered_s=0.0, domains=10**6, rtt_ms=0.0, loss=0.0, connected_s=1e9)
    worst = standing(loss=1.0, connected_s=0.0)
    assert score(best) == pytest.approx(1.0, abs=0.001)
    assert score(worst) == 0.0
    assert score(best) == pytest.approx(sum(parts(best).values()))


def test_a_domain_that_one_alone_serves_is_his_unless_we_serve_it() -> None:
    uses = {
        "a": Use(frozenset({"coding", "language"})),
        "b": Use(frozenset({"coding", "vision"})),
        "away": Use(frozenset({"language"})),
    }
    assert sole_domains(uses, ["a", "b", "c"], frozenset()) == {"a": 1, "b": 1, "c": 0}
    assert sole_domains(uses, ["a", "b", "c"], frozenset({"vision"})) == {"a": 1, "b": 0, "c": 0}
