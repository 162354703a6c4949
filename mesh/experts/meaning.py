"""Which answers mean the same, by their embeddings. Pure.

Embeddings see what a text is about, and hardly whether it says yes or no, or 41 or 42. So texts with other numbers in
them, or of which one denies and the other does not, never mean the same, however close they are.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from mesh.experts.consensus import Ballot
from mesh.experts.normalise import group_of

_NUMBERS = re.compile(r"\d+(?:[.,]\d+)*")
_DENIALS = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|cannot|without|false)\b|n['’]t\b", re.IGNORECASE
)


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two unit vectors; 0 where one is missing."""
    return round(sum(a * b for a, b in zip(one, other, strict=True)), 4) if one and other else 0.0


def comparable(one: str, other: str) -> bool:
    """Whether closeness may speak for two texts: the same numbers in them, and both deny something or neither."""
    return _NUMBERS.findall(one) == _NUMBERS.findall(other) and bool(_DENIALS.search(one)) == bool(
        _DENIALS.search(other)
    )


def clustered(ballots: Sequence[Ballot], threshold: float) -> list[Ballot]:
    """The ballots with their groups and their similarity to the middle of it, in the order in which they came.

    A group is all that is close to one answer, its middle, from ``threshold`` on, or says the same without any
    embedding: never a chain of close ones. The group that weighs most is taken out first, then of the rest again.
    """
    near = {(one.rank, other.rank): _nearness(one, other) for one in ballots for other in ballots}
    rest, placed = list(ballots), {}
    while rest:
        middle, group = _heaviest(rest, near, threshold)
        for ballot in group:
            closeness = near[middle.rank, ballot.rank]
            placed[ballot.rank] = msgspec.structs.replace(ballot, group=group_of(middle.text), similarity=closeness)
        rest = [ballot for ballot in rest if ballot.rank not in placed]
    return [placed[ballot.rank] for ballot in ballots]


def _heaviest(
    rest: Sequence[Ballot], near: Mapping[tuple[int, int], float], threshold: float
) -> tuple[Ballot, list[Ballot]]:
    groups = [(middle, [one for one in rest if near[middle.rank, one.rank] >= threshold]) for middle in rest]
    return max(groups, key=lambda found: (round(sum(one.weight for one in found[1]), 4), -found[0].rank))


def _nearness(one: Ballot, other: Ballot) -> float:
    if group_of(one.text) == group_of(other.text):
        return 1.0
    return similarity(one.vector, other.vector) if comparable(one.text, other.text) else 0.0


def spokesman(ballots: Sequence[Ballot]) -> Ballot:
    """Whose words stand for a group: those closest to all the others', so that no one at its edge speaks for it."""

    def nearness(ballot: Ballot) -> float:
        return sum(_nearness(one, ballot) for one in ballots)

    return min(ballots, key=lambda ballot: (-round(nearness(ballot), 3), ballot.rank))
