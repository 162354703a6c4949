"""What can be named as a model: an expert, a domain as ``mesh/<domain>``, or ``mesh/auto``. Pure."""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from mesh.experts.known import Offer
from mesh.gateway.problems import Problem

AUTO = "mesh/auto"
_PREFIX = "mesh/"
Offers = Mapping[str, Mapping[str, Offer]]


class Choice(NamedTuple):
    """What a model's name asks for: one expert, or any of a domain; neither: whoever fits."""

    expert: str
    domain: str


def names(offers: Offers) -> list[str]:
    """Every name that means something now."""
    experts = {expert for each in offers.values() for expert in each}
    domains = {domain for each in offers.values() for offer in each.values() for domain in offer.domains}
    return [AUTO, *sorted(_PREFIX + domain for domain in domains), *sorted(experts)]


def choose(model: str, offers: Offers) -> Choice:
    """What ``model`` asks for. Raises Problem (404) when nobody offers it, with what comes near."""
    known = names(offers)
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3) or known[:5]
        message = f"The model {model!r} does not exist: nobody offers it now. There are: {', '.join(near)}."
        raise Problem(404, message, code="model_not_found", param="model")
    if model == AUTO:
        return Choice("", "")
    domain = model.removeprefix(_PREFIX)
    return Choice("", domain) if model.startswith(_PREFIX) else Choice(model, "")


def owner_of(name: str, offers: Offers) -> str:
    """Who offers a model: the end of the PeerId of the first that does, or the mesh."""
    peers = sorted(peer for peer, each in offers.items() if name in each)
    return peers[0][-8:] if peers else "mesh"
