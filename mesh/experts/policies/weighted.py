"""``weighted``: a score of four parts, the highest first.

``score = (0.3 × (1 − load) + 0.3 × speed + 0.3 × success + 0.1 × quality) × health × link × warm``, from 0 to 1, where
``speed = median / (median + latency + jitter)``: one half for a candidate as fast as the median of all, near one for
a much faster one. ``link`` is `mesh.experts.links.delivery`, ``warm`` `mesh.experts.slow_start.warmth`.
"""

from collections.abc import Sequence
from typing import Literal

from mesh.experts.candidates import HEALTH_FACTOR, Candidate, Features
from mesh.experts.exact import Dice
from mesh.experts.links import delivery, wobble_ms
from mesh.experts.policies.policy import Ranked, ranked, shuffled

LOAD, SPEED, SUCCESS, QUALITY = 0.3, 0.3, 0.3, 0.1
MIN_LATENCY_MS = 0.1


def score(features: Features, median_ms: float) -> float:
    """The formula above."""
    speed = median_ms / (median_ms + expected_ms(features))
    parts = (
        LOAD * (1.0 - min(1.0, features.load)) + SPEED * speed + SUCCESS * features.success + QUALITY * features.quality
    )
    return parts * HEALTH_FACTOR.get(features.status, 1.0) * delivery(features.link) * features.warm


def expected_ms(features: Features) -> float:
    """How long it may take, the unsteadiness of its connection included."""
    return max(features.latency_ms, MIN_LATENCY_MS) + wobble_ms(features.link)


class Weighted:
    """See the module's text. Among equals the seed decides."""

    name = "weighted"
    version = 3
    best: Literal["lowest", "highest"] = "highest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        del conversation
        if not candidates:
            return ()
        latencies = sorted(expected_ms(candidate.features) for candidate in candidates)
        median = latencies[(len(latencies) - 1) // 2]
        scored = [ranked(candidate, score(candidate.features, median)) for candidate in shuffled(candidates, dice)]
        return tuple(sorted(scored, key=lambda one: -one.score))
