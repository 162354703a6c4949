"""``latency_aware``: the nearest first, as far as the network goes.

The round trip of the journal's health samples says how far a peer is: to 5 ms the same site, to 30 ms the same region,
to 100 ms the same continent, else (and where nothing was measured) the world. The nearest come first, in the order of
``p2c_peak_ewma`` among them; who is 80 % full or ill comes after all others. The score is that of ``p2c_peak_ewma``.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from mesh.experts.candidates import Candidate
from mesh.experts.exact import Dice
from mesh.experts.links import LinkQuality
from mesh.experts.policies.p2c_peak_ewma import PeakEwmaOfTwo
from mesh.experts.policies.policy import Ranked
from mesh.experts.policies.strain import strain

REGIONS: tuple[tuple[str, float], ...] = (("site", 5.0), ("region", 30.0), ("continent", 100.0))
FAR = "world"


def region(link: LinkQuality) -> str:
    """How far away the peer at the other end is."""
    if link.rtt_ms < 0:
        return FAR
    return next((name for name, rtt_ms in REGIONS if link.rtt_ms <= rtt_ms), FAR)


class LatencyAware:
    """See the module's text."""

    name = "latency_aware"
    version = 1
    best: Literal["lowest", "highest"] = "lowest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        del conversation
        order: list[Ranked] = []
        for note in (*(name for name, _ in REGIONS), FAR):
            near = [one for one in candidates if region(one.features.link) == note and not strain(one.features)]
            order += _noted(near, note, dice)
        strained = [one for one in candidates if strain(one.features)]
        return (*order, *_noted(strained, "strained", dice))


def _noted(candidates: Sequence[Candidate], note: str, dice: Dice) -> list[Ranked]:
    return [msgspec.structs.replace(one, note=note) for one in PeakEwmaOfTwo().rank(candidates, dice)]
