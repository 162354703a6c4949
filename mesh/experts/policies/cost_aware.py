"""``cost_aware``: the cheapest first, by the price that its operator declared.

Experts of the same price are in the order of ``p2c_peak_ewma``; who is 80 % full or ill comes after all others, the
cheapest first there too. The score is the price.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from mesh.experts.candidates import Candidate
from mesh.experts.exact import Dice
from mesh.experts.policies.p2c_peak_ewma import PeakEwmaOfTwo
from mesh.experts.policies.policy import Ranked
from mesh.experts.policies.strain import strain


class CostAware:
    """See the module's text."""

    name = "cost_aware"
    version = 1
    best: Literal["lowest", "highest"] = "lowest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        del conversation
        features = {one.target: one.features for one in candidates}
        priced = [
            msgspec.structs.replace(one, score=features[one.target].price, note=strain(features[one.target]))
            for one in PeakEwmaOfTwo().rank(candidates, dice)
        ]
        return tuple(sorted(priced, key=lambda one: (bool(one.note), one.score)))
