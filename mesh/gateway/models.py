"""What can be named as a model: an expert, a domain as ``mesh/<domain>``, or ``mesh/auto``. Pure."""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from mesh.experts.known import Offer, Withdrawn
from mesh.gateway.problems import Problem

AUTO = "mesh/auto"
_PREFIX = "mesh/"
# What somebody offered so short a time ago may be back soon: clients are told to come again, not that it is not there.
_LATELY_S = 600.0
_RETRY_S = 2.0
Offers = Mapping[str, Mapping[str, Offer]]


class Catalogue(NamedTuple):
    """What is offered, and what was withdrawn (`mesh.experts.state.RoutingState`)."""

    offers: Offers
    withdrawn: Mapping[str, Withdrawn]


class Choice(NamedTuple):
    """What a model's name asks for: one expert, or any of a domain; neither: whoever fits."""

    expert: str
    domain: str


def names(offers: Offers) -> list[str]:
    """Every name that means something now."""
    experts = {expert for each in offers.values() for expert in each}
    domains = {domain for each in offers.values() for offer in each.values() for domain in offer.domains}
    return [AUTO, *sorted(_PREFIX + domain for domain in domains), *sorted(experts)]


def choose(model: str, catalogue: Catalogue, now: float) -> Choice:
    """What ``model`` asks for at ``now`` (Unix seconds).

    Raises Problem when nobody offers it: 503 when somebody did within ten minutes, else 404 with what comes near.
    """
    known = names(catalogue.offers)
    if model not in known:
        gone_s = now - _withdrawn_at(model, catalogue)
        if gone_s < _LATELY_S:
            message = f"Nobody offers the model {model!r} now; somebody did until {gone_s:.0f} s ago. Try again."
            raise Problem(
                503, message, kind="server_error", code="no_candidates", param="model", retry_after_s=_RETRY_S
            )
        near = difflib.get_close_matches(model, known, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(known[:5])}."
        message = f"The model {model!r} does not exist: nobody offers it. {hint} GET /v1/models has all {len(known)}."
        raise Problem(404, message, code="model_not_found", param="model")
    if model == AUTO:
        return Choice("", "")
    domain = model.removeprefix(_PREFIX)
    return Choice("", domain) if model.startswith(_PREFIX) else Choice(model, "")


def _withdrawn_at(model: str, catalogue: Catalogue) -> float:
    """When it was last withdrawn; -inf: never, as far as is remembered."""
    domain = model.removeprefix(_PREFIX) if model.startswith(_PREFIX) else ""
    gone = (each.at for each in catalogue.withdrawn.values() if model == each.expert or domain in each.domains)
    return max(gone, default=float("-inf"))


def owner_of(name: str, offers: Offers) -> str:
    """Who offers a model: the end of the PeerId of the first that does, or the mesh."""
    peers = sorted(peer for peer, each in offers.items() if name in each)
    return peers[0][-8:] if peers else "mesh"
