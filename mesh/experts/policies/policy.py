"""What a policy is: a pure function from candidates to an order."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from mesh.experts.candidates import Candidate
from mesh.experts.exact import Dice
from mesh.experts.known import Target


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate in its place. ``note`` says in a few words how it got there, where the score alone does not."""

    peer: str
    expert: str
    score: float
    note: str = ""

    @property
    def target(self) -> Target:
        """Which expert on which peer."""
        return Target(self.peer, self.expert)


class Policy(Protocol):
    """Ranks candidates. A change of what it computes raises ``version``: recorded decisions name it."""

    name: str
    version: int
    best: Literal["lowest", "highest"]

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """Every candidate once, the one to ask first in front. Depends on nothing but the arguments.

        ``conversation`` is the same for all requests of a conversation; empty: none.
        """
        ...


def ranked(candidate: Candidate, score: float, note: str = "") -> Ranked:
    """A candidate with its score, rounded to what a person can compare."""
    return Ranked(peer=candidate.peer, expert=candidate.expert, score=float(round(score, 4)), note=note)


def shuffled(candidates: Sequence[Candidate], dice: Dice) -> list[Candidate]:
    """The candidates in a random order (Fisher-Yates), so that equal ones do not always come in the same."""
    pool = list(candidates)
    for index in range(len(pool) - 1, 0, -1):
        other = dice.below(index + 1)
        pool[index], pool[other] = pool[other], pool[index]
    return pool
