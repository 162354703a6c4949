"""Counting answers: whose is the outcome, and when is it certain. Pure.

One vote a peer. With ``3f + 1`` peers asked and ``2f + 1`` equal answers needed, ``f`` that lie change nothing: they
can neither gather a quorum nor, while the others agree, prevent one. Weights cannot change that either way: the number
of votes is needed whatever they weigh, and as none weighs less than half of another (`mesh.experts.reliability`),
``2f + 1`` of the least outweigh ``f`` of the most.
"""

from collections.abc import Sequence

import msgspec

from mesh.events.vocabulary.requests import Vote
from mesh.experts.known import Target
from mesh.experts.normalise import exact_group, group_of, normalise


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    """A signed answer that counts. ``rank`` is its expert's place in the routing decision, the first is 0."""

    rank: int
    target: Target
    text: str
    digest: str
    group: str
    weight: float = 1.0
    vector: tuple[float, ...] = ()
    similarity: float = 1.0


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The count. ``leader`` is the group that is ahead (the better ranked among equals); empty without votes.

    ``weight`` is that of its votes, ``against`` that of all other votes, ``waiting`` that of the votes still to come;
    ``possible`` says whether these could yet give some group all that it needs.
    """

    leader: str
    support: int
    quorum: int
    cast: int
    outstanding: int
    weight: float
    against: float
    waiting: float
    possible: bool

    @property
    def decided(self) -> bool:
        """The leader has its quorum and outweighs all that speaks, or could still speak, against it.

        A quorum below a majority, which is a caller's own choice, waits for nobody.
        """
        majority_needed = 2 * self.quorum > self.cast + self.outstanding
        opposed = self.against + (self.waiting if majority_needed else 0.0)
        return self.support >= self.quorum and self.weight > opposed

    @property
    def hopeless(self) -> bool:
        """Not even all votes still to come could decide it."""
        return not self.possible


def majority(asked: int) -> int:
    """The least number of votes that is more than half of ``asked``."""
    return asked // 2 + 1


def byzantine(faults: int) -> tuple[int, int]:
    """How many to ask and how many equal answers to need, so that ``faults`` liars neither win nor prevent."""
    return 3 * faults + 1, 2 * faults + 1


def tally(ballots: Sequence[Ballot], *, quorum: int, outstanding: int, waiting: float | None = None) -> Tally:
    """Count the ballots cast so far; ``outstanding`` experts, of the weight ``waiting`` in all, have yet to answer."""
    waiting = float(outstanding) if waiting is None else waiting
    groups: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        groups.setdefault(ballot.group, []).append(ballot)
    weights = {group: sum(one.weight for one in members) for group, members in groups.items()}
    total = sum(weights.values())
    leader = min(
        groups,
        key=lambda group: (
            len(groups[group]) < quorum,
            -weights[group],
            -len(groups[group]),
            min(one.rank for one in groups[group]),
        ),
        default="",
    )
    return Tally(
        leader=leader,
        support=len(groups.get(leader, ())),
        quorum=quorum,
        cast=len(ballots),
        outstanding=outstanding,
        weight=round(weights.get(leader, 0.0), 4),
        against=round(total - weights.get(leader, 0.0), 4),
        waiting=round(waiting, 4),
        possible=any(
            len(groups.get(group, ())) + outstanding >= quorum
            and weights.get(group, 0.0) + waiting > total - weights.get(group, 0.0)
            for group in (*groups, "")
        ),
    )


def votes_of(ballots: Sequence[Ballot], winner: str) -> tuple[Vote, ...]:
    """The record of every vote, the dissent included, in the order of the decision's ranking."""
    return tuple(
        Vote(
            peer=ballot.target.peer,
            expert=ballot.target.expert,
            answer_digest=ballot.digest,
            group=ballot.group,
            agrees=ballot.group == winner,
            weight=ballot.weight,
            similarity=ballot.similarity,
        )
        for ballot in sorted(ballots, key=lambda ballot: ballot.rank)
    )


__all__ = ["Ballot", "Tally", "byzantine", "exact_group", "group_of", "majority", "normalise", "tally", "votes_of"]
