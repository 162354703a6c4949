"""``round_robin``: whoever was asked longest ago comes next.

The memory is the journal position of the last dispatch to each candidate, so that turns stay even while
candidates come and go; one that was never asked is first. The score is that position, lower is better.
"""

from collections.abc import Sequence
from typing import Literal

from mesh.experts.candidates import Candidate
from mesh.experts.exact import Dice
from mesh.experts.policies.policy import Ranked, ranked, shuffled


class RoundRobin:
    """See the module's text. Among those never asked the seed decides."""

    name = "round_robin"
    version = 3  # the order is that of version 1; what is recorded of candidates is more
    best: Literal["lowest", "highest"] = "lowest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        del conversation
        scored = [ranked(candidate, candidate.features.last_dispatched) for candidate in shuffled(candidates, dice)]
        return tuple(sorted(scored, key=lambda one: one.score))
