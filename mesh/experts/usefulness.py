"""What each peer is good for, from the state of routing. Pure."""

from collections.abc import Mapping

from mesh.experts.state import RoutingState


def domains_served(state: RoutingState) -> Mapping[str, frozenset[str]]:
    """The domains that each peer, this node included, offers experts for."""
    return {
        peer: frozenset(domain for offer in offers.values() for domain in offer.domains)
        for peer, offers in state.offers.items()
    }


def last_answers(state: RoutingState) -> Mapping[str, float]:
    """When each peer last answered a request of ours, in Unix seconds."""
    answers = {
        peer: max((track.latency_at for track in tracks.values()), default=0.0) for peer, tracks in state.tracks.items()
    }
    return {peer: at for peer, at in answers.items() if at}
