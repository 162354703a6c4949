"""``p2c_peak_ewma``: of two candidates drawn at random, the cheaper one.

``cost = (latency + jitter) × (pending + 1) / (success × health × link × warm × (0.5 + quality))``, lower is better;
``link`` is `mesh.experts.links.delivery`, ``warm`` `mesh.experts.slow_start.warmth`.

Two random choices keep a crowd from running to the same best peer: Mitzenmacher, The Power of Two Choices in
Randomized Load Balancing (2001). The latency is Finagle's peak EWMA (`com.twitter.finagle.loadbalancer.PeakEwma`),
which weighs it with the requests pending in the same way; we add what fails, what is ill, and what the operator
thinks of it. Where Finagle lets an idle peer's latency fade to 0, ours fades to the median of the candidates.
"""

from collections.abc import Sequence
from typing import Literal

from mesh.experts.candidates import HEALTH_FACTOR, Candidate, Features
from mesh.experts.exact import Dice
from mesh.experts.links import delivery, wobble_ms
from mesh.experts.policies.policy import Ranked, ranked

MIN_SUCCESS = 0.05
MIN_LATENCY_MS = 0.1


def cost(features: Features) -> float:
    """The formula above, in milliseconds of an ideal peer."""
    merit = max(features.success, MIN_SUCCESS) * HEALTH_FACTOR.get(features.status, 1.0) * (0.5 + features.quality)
    expected = max(features.latency_ms, MIN_LATENCY_MS) + wobble_ms(features.link)
    return expected * (features.pending + 1) / (merit * delivery(features.link) * features.warm)


class PeakEwmaOfTwo:
    """See the module's text. The whole order comes from drawing again among those that are left."""

    name = "p2c_peak_ewma"
    version = 3
    best: Literal["lowest", "highest"] = "lowest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        del conversation
        pool = [(cost(candidate.features), candidate) for candidate in candidates]
        order: list[Ranked] = []
        while len(pool) > 1:
            first, second = dice.two_below(len(pool))
            winner, loser = (first, second) if pool[first][0] <= pool[second][0] else (second, first)
            note = f"drawn with {pool[loser][1].target}"
            order.append(ranked(pool[winner][1], pool[winner][0], note))
            pool[winner] = pool[-1]
            pool.pop()
        order.extend(ranked(candidate, price) for price, candidate in pool)
        return tuple(order)
