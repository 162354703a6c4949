"""``weighted``: a score of four parts, the highest first.

``score = (0.3 × (1 − load) + 0.3 × speed + 0.3 × success + 0.1 × quality) × health``, from 0 to 1, where
``speed = median / (median + latency)``: one half for a candidate as fast as the median of all, near one for a much
faster one.
"""

from collections.abc import Sequence
from typing import Literal

from mesh.experts.candidates import HEALTH_FACTOR, Candidate, Features
from mesh.experts.exact import Dice
from mesh.experts.policies.policy import Ranked, ranked, shuffled

LOAD, SPEED, SUCCESS, QUALITY = 0.3, 0.3, 0.3, 0.1
MIN_LATENCY_MS = 0.1


def score(features: Features, median_ms: float) -> float:
    """The formula above."""
    speed = median_ms / (median_ms + max(features.latency_ms, MIN_LATENCY_MS))
    parts = (
        LOAD * (1.0 - min(1.0, features.load)) + SPEED * speed + SUCCESS * features.success + QUALITY * features.quality
    )
    return parts * HEALTH_FACTOR.get(features.status, 1.0)


class Weighted:
    """See the module's text. Among equals the seed decides."""

    name = "weighted"
    version = 1
    best: Literal["lowest", "highest"] = "highest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice) -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        if not candidates:
            return ()
        latencies = sorted(max(candidate.features.latency_ms, MIN_LATENCY_MS) for candidate in candidates)
        median = latencies[(len(latencies) - 1) // 2]
        scored = [ranked(candidate, score(candidate.features, median)) for candidate in shuffled(candidates, dice)]
        return tuple(sorted(scored, key=lambda one: -one.score))
