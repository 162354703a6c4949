"""``peer_lost``: a peer that was connected is gone, and had not said that it would go."""

from collections.abc import Iterator

from mesh.health.rules.rule import Finding, Rule, short
from mesh.health.state import HealthState


def find(state: HealthState, now: float) -> Iterator[Finding]:
    """One finding for each peer that had a connection long enough to be missed."""
    for name, peer in state.peers.items():
        if not peer.gone_since:
            back = 0.0 if now >= state.counts_from(name) else None
            yield Finding(name, back, f"peer {short(name)} is connected again")
            continue
        if peer.left:
            yield Finding(name, 0.0, f"peer {short(name)} said goodbye")
            continue
        since = state.missed_since(peer)
        if peer.acquainted:
            missing = now >= since
            why = f": {peer.gone_why}" if peer.gone_why else ""
            yield Finding(
                name,
                1.0 if missing else None,
                f"peer {short(name)} is gone{why}",
                {"gone_s": round(max(0.0, now - peer.gone_since), 3), "confirmed_down": float(peer.down)},
                since,
            )


RULE = Rule(
    name="peer_lost",
    about="A peer that was connected is gone without a goodbye",
    severity="error",
    for_s=5.0,
    find=find,
)
