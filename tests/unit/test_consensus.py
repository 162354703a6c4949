"""When two answers are the same, and when the outcome is certain."""

import pytest

from mesh.experts.consensus import Ballot, group_of, majority, normalise, tally, votes_of
from mesh.experts.known import Target


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4", "4.0"),
        ("4", " 4.\n"),
        ("1000", "1,000"),
        ("0.1", "1e-1"),
        ("+5", "5"),
        ("-0", "0"),
        ("0.30000000000000004", "0.3"),
        ("Paris", "  paris. "),
        ("two\n words", "Two words"),
        ('{"a": 1, "b": [2.0]}', '{"b":[2],"a":1.0}'),
        ("ﬁne", "fine"),
    ],
)
def test_the_same_said_differently(one: str, other: str) -> None:
    assert group_of(one) == group_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4", "5"),
        ("4", "four"),
        ("1e400", "1e401"),
        ("Paris", "London"),
        ('{"a": 1}', '{"a": "1"}'),
        ("[1, 2]", "[2, 1]"),
        ("1.5", "1,5"),
        ("", "0"),
    ],
)
def test_different_answers_stay_different(one: str, other: str) -> None:
    assert group_of(one) != group_of(other)


@pytest.mark.parametrize("nasty", ["[" * 50_000, "9" * 100_000, "1e99999999", "NaN", "٣", "\ud800", "", "1" * 200_001])
def test_nothing_that_a_peer_writes_breaks_the_count(nasty: str) -> None:
    assert group_of(nasty) == group_of(nasty)
    assert normalise(nasty)


def ballot(rank: int, text: str) -> Ballot:
    return Ballot(rank=rank, target=Target(f"p{rank}", "a"), text=text, digest=text, group=group_of(text))


def test_a_majority_is_more_than_half() -> None:
    assert [majority(asked) for asked in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]


def test_the_count_says_when_it_is_certain() -> None:
    count = tally([ballot(0, "4"), ballot(1, "4")], quorum=3, outstanding=2)
    assert (count.decided, count.hopeless) == (False, False)
    assert tally([ballot(rank, "4") for rank in range(3)], quorum=3, outstanding=1).decided
    assert tally([ballot(0, "4"), ballot(1, "5")], quorum=3, outstanding=1).hopeless


def test_among_equal_groups_the_better_ranked_leads() -> None:
    assert tally([ballot(2, "5"), ballot(1, "4")], quorum=2, outstanding=0).leader == group_of("4")


def test_votes_keep_the_dissent_in_ranked_order() -> None:
    votes = votes_of([ballot(2, "5"), ballot(0, "4"), ballot(1, "4")], group_of("4"))
    assert [(vote.peer, vote.agrees) for vote in votes] == [("p0", True), ("p1", True), ("p2", False)]
