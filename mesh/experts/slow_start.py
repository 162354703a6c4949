"""How much a fresh or recovered expert counts at first, so that not everybody runs to it at once. Pure."""

from mesh.experts.known import Offer, Peer
from mesh.experts.tracks import Track

# What it counts in its first moment: its share of the requests grows with it.
COLD = 0.1


def warmth(peer: Peer, offer: Offer, track: Track, now: float, slow_start_s: float) -> float:
    """``COLD`` to 1, rising evenly over ``slow_start_s``.

    From when it was first offered, its peer connected or was heard of again, or it was readmitted, whichever is last.
    """
    began = max(offer.since, peer.link.since, peer.back_at, track.readmitted_at)
    if slow_start_s <= 0 or not began or now - began >= slow_start_s:
        return 1.0
    return round(COLD + (1.0 - COLD) * max(0.0, now - began) / slow_start_s, 4)
