"""Weights, quorums, meaning, and who has no vote."""

import itertools
import random

import pytest

from mesh.config import ConsensusConfig
from mesh.experts.consensus import byzantine, tally
from mesh.experts.election import Election
from mesh.experts.known import Target
from mesh.experts.meaning import comparable, spokesman
from mesh.experts.queries import Query
from mesh.experts.reliability import FLOOR, Reliability, checked, equivocated, voted, weight
from mesh.experts.voting import Voting, make_voting

HONEST = "42"


def voting(faults: int = 1, **more: object) -> Voting:
    asked, quorum = byzantine(faults)
    return Voting(fan_out=asked, quorum=quorum, faults=faults, **more)


def election(weights: list[float], **more: object) -> Election:
    held = Election(voting(**more), "mathematics")
    for number, one in enumerate(weights):
        held.ask(Target(f"p{number}", "a"), one)
    return held


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_liars_neither_win_nor_prevent_whatever_the_weights_and_the_order(faults: int) -> None:
    asked, quorum = byzantine(faults)
    for seed in range(300):
        rng = random.Random(seed)
        weights = [FLOOR] * asked
        liars = set(rng.sample(range(asked), faults))
        for rank in range(asked):
            weights[rank] = 1.0 if rank in liars else rng.uniform(FLOOR, 1.0)
        held = election(weights, faults=faults)
        for rank in rng.sample(range(asked), asked):
            if held.is_certain():
                break
            held.cast(rank, "41" if rank in liars else rng.choice([HONEST, "42.0", " 42. "]), str(rank))
        assert held.tally.decided, seed
        assert not set(held.winners()) & liars, seed
        assert held.tally.support == quorum, seed


@pytest.mark.parametrize("seed", [17])
def test_one_liar_of_four_wins_none_of_ten_thousand(seed: int) -> None:
    """The liar is fast or slow, always lies alike or each time otherwise, says two things, or nothing."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(10_000):
        held, liar = election([rng.choice([FLOOR, 0.8, 1.0]) for _ in range(4)]), rng.randrange(4)
        for rank in rng.sample(range(4), 4):
            if held.is_certain():
                break
            character = rng.random()
            if rank != liar:
                held.cast(rank, rng.choice(["{}", "{}.0", " {} ", "The answer is {}."]).format(number), "d")
            elif character < 0.1:
                held.failed(rank)
            elif character < 0.2:
                held.said_two_things(rank)
            else:
                held.cast(rank, str(number + rng.choice([1, rng.randrange(2, 99)])), "d")
        assert held.tally.decided, (seed, number)
        assert liar not in held.winners(), (seed, number)


def test_it_is_certain_only_when_nothing_to_come_can_change_it() -> None:
    """Whatever the undecided might still say, a decided election stays decided for the same."""
    for weights in itertools.product([FLOOR, 0.75, 1.0], repeat=3):
        for said in itertools.product("xy", repeat=3):
            held = Election(Voting(fan_out=3, quorum=2), "d")
            for number, one in enumerate(weights):
                held.ask(Target(f"p{number}", "a"), one)
            early = ""
            for rank, text in enumerate(said):
                held.cast(rank, text, text)
                if held.is_certain() and not early:
                    early = held.tally.leader if held.tally.decided else "none"
            last = held.tally.leader if held.tally.decided else "none"
            assert early == last


def test_two_doubtful_experts_do_not_outvote_one_that_is_trusted() -> None:
    held = Election(Voting(fan_out=3, quorum=2), "d")
    for number, one in enumerate([0.5, 0.5, 1.0]):
        held.ask(Target(f"p{number}", "a"), one)
    held.cast(0, "x", "x")
    held.cast(1, "x", "x")
    assert not held.is_certain()
    held.cast(2, "y", "y")
    assert held.tally.hopeless


def test_an_equivocator_has_no_vote_and_is_named() -> None:
    held = election([1.0] * 4)
    held.said_two_things(3)
    for rank in range(3):
        held.cast(rank, HONEST, "d")
    held.close([])
    assert held.tally.decided
    assert held.count().equivocated == ("p3/a",)
    assert held.count().asked == 4


def test_a_small_quorum_of_the_callers_own_waits_for_nobody() -> None:
    assert tally([*_ballots("4", "4")], quorum=2, outstanding=3).decided


def _ballots(*texts: str):
    held = Election(Voting(fan_out=len(texts), quorum=1), "d")
    for number, text in enumerate(texts):
        held.cast(held.ask(Target(f"p{number}", "a"), 1.0), text, text)
    return held.ballots


# -- meaning ---------------------------------------------------------------------------------------------------------


def meant(*said: tuple[str, tuple[float, ...]], threshold: float = 0.9) -> Election:
    held = election([1.0] * 4, agreement="semantic", threshold=threshold)
    for rank, (text, vector) in enumerate(said):
        held.cast(rank, text, text, vector)
    return held


def test_answers_that_mean_the_same_are_one_group_with_the_closeness_recorded() -> None:
    held = meant(("a cat sat", (1.0, 0.0)), ("a cat was sitting", (0.95, 0.312)), ("some dog", (0.0, 1.0)))
    assert [ballot.similarity for ballot in held.ballots] == [1.0, 0.95, 1.0]
    assert held.tally.support == 2
    assert held.count().threshold == 0.9


def test_close_ones_make_no_chain() -> None:
    turned = [(1.0, 0.0), (0.92, 0.392), (0.693, 0.721), (0.357, 0.934)]  # each close to the one before only
    held = meant(*((f"text {'abcd'[n]}", vector) for n, vector in enumerate(turned)))
    assert held.tally.support == 3
    assert all(ballot.similarity >= 0.9 for ballot in held.ballots)


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("It costs 41 euros", "It costs 42 euros", False),
        ("It is safe", "It is not safe", False),
        ("It isn't safe", "It is not safe", True),
        ("It costs 41", "The cost is 41", True),
    ],
)
def test_numbers_and_denials_are_not_left_to_an_embedding(one: str, other: str, may: bool) -> None:
    assert comparable(one, other) is may
    assert (len({ballot.group for ballot in meant((one, (1.0, 0.0)), (other, (1.0, 0.0))).ballots}) == 1) is may


def test_no_vector_no_meaning() -> None:
    held = meant(("one thing", ()), ("another thing", ()), ("One thing.", ()))
    assert held.tally.support == 2


def test_the_words_of_the_middle_stand_for_a_group() -> None:
    held = meant(("edge x", (0.95, 0.312)), ("middle x", (1.0, 0.0)), ("edge y", (0.95, -0.312)), threshold=0.8)
    assert spokesman(held.ballots).text == "middle x"
    assert held.winners() == [1, 0, 2]


def test_what_lies_between_two_joins_them() -> None:
    apart = ("edge x", (0.95, 0.312)), ("edge y", (0.95, -0.312))
    assert meant(*apart).tally.support == 1
    assert not meant(*apart).is_certain()
    held = meant(*apart, ("middle z", (1.0, 0.0)))
    assert held.tally.decided
    assert held.winners() == [2, 0, 1]


# -- reliability -----------------------------------------------------------------------------------------------------


def test_who_is_new_weighs_all_and_who_lies_half() -> None:
    known = Reliability()
    assert weight(known) == 1.0
    voted(known, agrees=False)
    assert weight(known) == 0.9
    for _ in range(300):
        voted(known, agrees=False)
    assert FLOOR < weight(known) < 0.55
    for _ in range(300):
        voted(known, agrees=True)
    assert weight(known) > 0.97


def test_canaries_and_double_answers_weigh_more_than_a_dissent() -> None:
    dissenter, caught, proven = Reliability(), Reliability(), Reliability()
    voted(dissenter, agrees=False)
    checked(caught, passed=False)
    equivocated(proven)
    assert weight(dissenter) > weight(caught) > weight(proven) > FLOOR


# -- what was asked for ------------------------------------------------------------------------------------------------


def test_faults_say_how_many_are_asked_and_needed() -> None:
    made = make_voting(Query(content="x", faults=2), "consensus", 3, ConsensusConfig())
    assert (made.fan_out, made.quorum) == (7, 5)
    more = make_voting(Query(content="x", faults=1, fan_out=8), "consensus", 3, ConsensusConfig())
    assert (more.fan_out, more.quorum) == (8, 5)
    assert make_voting(Query(content="x"), "consensus", 3, ConsensusConfig(faults=1)).quorum == 3
    assert make_voting(Query(content="x", fan_out=3), "consensus", 3, ConsensusConfig(faults=1)).quorum == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"faults": 1, "quorum": 2, "fan_out": 4},
        {"faults": 1, "fan_out": 3},
        {"quorum": 4, "fan_out": 3},
    ],
)
def test_contradictions_are_refused(asked: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="fan_out"):
        make_voting(Query(content="x", **asked), "consensus", 3, ConsensusConfig())


@pytest.mark.parametrize("name", ["quorum", "faults", "agreement", "threshold", "repeat"])
def test_what_only_a_consensus_knows_is_refused_elsewhere(name: str) -> None:
    value = "exact" if name == "agreement" else 1
    with pytest.raises(ValueError, match=name):
        make_voting(Query.model_validate({"content": "x", name: value}), "best_peer", 3, ConsensusConfig())


def test_a_domain_has_its_own_way_of_comparing_unless_the_caller_chose_one() -> None:
    config = ConsensusConfig(domains={"language": "semantic"})
    assert make_voting(Query(content="x"), "consensus", 3, config).agreement_in("language") == "semantic"
    assert make_voting(Query(content="x"), "consensus", 3, config).agreement_in("coding") == "normalised"
    assert (
        make_voting(Query(content="x", agreement="exact"), "consensus", 3, config).agreement_in("language") == "exact"
    )
