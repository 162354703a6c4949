"""``least_in_flight``: whoever has the fewest requests now.

``score = (pending + 1) / (health × warm)``, lower is better, where ``pending`` are ours and others' and ``warm`` is
`mesh.experts.slow_start.warmth`. It needs no clock and no history: where requests take about the same everywhere, the
queue says it all (NGINX's ``least_conn``).
"""

from collections.abc import Sequence
from typing import Literal

from mesh.experts.candidates import HEALTH_FACTOR, Candidate, Features
from mesh.experts.exact import Dice
from mesh.experts.policies.policy import Ranked, ranked, shuffled


def burden(features: Features) -> float:
    """The formula above."""
    return (features.pending + 1) / (HEALTH_FACTOR.get(features.status, 1.0) * features.warm)


class LeastInFlight:
    """See the module's text. Among equals the seed decides."""

    name = "least_in_flight"
    version = 1
    best: Literal["lowest", "highest"] = "lowest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        del conversation
        scored = [ranked(candidate, burden(candidate.features)) for candidate in shuffled(candidates, dice)]
        return tuple(sorted(scored, key=lambda one: one.score))
