"""``sticky``: a conversation stays with one expert, whose cache is warm for it, as long as that one has room.

Rendezvous hashing (Thaler and Ravishankar, 1998): each expert's score is a hash of the conversation and itself, the
highest wins, so that an expert that comes or goes moves only its own conversations. Breaking away: an expert that has
more than 1.25 times its fair share of what is pending (consistent hashing with bounded loads, Mirrokni, Thorup and
Zadimoghaddam, 2016), is 80 % full or is ill, comes after all others; the next ones are the same for every request of
the conversation. A request without a conversation goes by ``p2c_peak_ewma``.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

from mesh.experts.candidates import Candidate
from mesh.experts.exact import Dice
from mesh.experts.policies.p2c_peak_ewma import PeakEwmaOfTwo
from mesh.experts.policies.policy import Ranked, ranked
from mesh.experts.policies.strain import strain

FAIR_SHARE = 1.25
# With so few pending nobody is too busy, whatever the others have.
ALWAYS_FAIR = 2


def affinity(conversation: str, candidate: Candidate) -> float:
    """0..1, the same whenever and wherever it is asked."""
    key = f"{conversation} {candidate.peer} {candidate.expert}".encode()
    return int.from_bytes(sha256(key).digest()[:6]) / (1 << 48)


class Sticky:
    """See the module's text."""

    name = "sticky"
    version = 1
    best: Literal["lowest", "highest"] = "highest"

    def rank(self, candidates: Sequence[Candidate], dice: Dice, conversation: str = "") -> tuple[Ranked, ...]:
        """See `Policy.rank`."""
        if not conversation:
            order = PeakEwmaOfTwo().rank(candidates, dice)
            return tuple(Ranked(peer=one.peer, expert=one.expert, score=0.0, note="no conversation") for one in order)
        total = sum(candidate.features.pending for candidate in candidates)
        fair = max(ALWAYS_FAIR, FAIR_SHARE * (total + 1) / max(1, len(candidates)))
        scored = [_one(conversation, candidate, fair) for candidate in candidates]
        return tuple(sorted(scored, key=lambda one: (bool(one.note), -one.score, one.target)))


def _one(conversation: str, candidate: Candidate, fair: float) -> Ranked:
    busy = f"{candidate.features.pending} pending" if candidate.features.pending + 1 > fair else ""
    return ranked(candidate, affinity(conversation, candidate), strain(candidate.features) or busy)
