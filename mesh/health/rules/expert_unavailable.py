"""``expert_unavailable``: an expert that is offered, here or by a peer that is connected, takes no requests."""

from collections.abc import Iterator

from mesh.health.records import Offer
from mesh.health.rules.rule import Finding, Rule, short
from mesh.health.state import HealthState

# The reason of ``expert.expired`` where the peer itself took the expert back.
WITHDRAWN = "withdrawn"


def find(state: HealthState, now: float) -> Iterator[Finding]:
    """One finding for each expert that is or was offered; those of a lost peer are `peer_lost`'s to tell."""
    for peer, offers in state.experts.items():
        for expert, offer in offers.items():
            value, state_text = _judge(state, peer, offer, now)
            owner = "this node" if peer == state.node else f"peer {short(peer)}"
            until = state.believed_until(peer, offer) if value and state.here(peer) else now
            yield Finding(
                f"{peer}/{expert}",
                value,
                f"expert {expert} of {owner} {state_text}",
                {"available": float(offer.available), "overdue_s": round(max(0.0, now - until), 3)},
            )


def _judge(state: HealthState, peer: str, offer: Offer, now: float) -> tuple[float | None, str]:
    if not state.here(peer):
        return None, "cannot be reached"
    if state.live(peer, offer, now):
        return 0.0 if now >= state.counts_from(peer) else None, "is available"
    fresh = max(offer.at, offer.expired_at) >= _since(state, peer)
    if not fresh and now <= state.believed_until(peer, offer):
        return None, "has not been heard of since the peer came back"
    if offer.expired_at and offer.why == WITHDRAWN:
        return 0.0, "was withdrawn"
    if offer.expired_at:
        return 1.0, f"is no longer offered: {offer.why}"
    return 1.0, "is not available" if not offer.available else "has not renewed its offer"


def _since(state: HealthState, peer: str) -> float:
    return state.started_at if peer == state.node else state.peers[peer].connected_since


RULE = Rule(
    name="expert_unavailable",
    about="An expert of this node or of a connected peer takes no requests, or its offer was not renewed",
    severity="warning",
    for_s=30.0,
    find=find,
)
