"""Deciding whom to ask: a pure function of the folded journal, the request, a recorded time and a recorded seed."""

import msgspec

from mesh.events.vocabulary.requests import RequestRouted
from mesh.experts.candidates import Candidate, Exclusion, RoutingInputs, find_candidates
from mesh.experts.exact import Dice
from mesh.experts.known import Target
from mesh.experts.policies import Ranked, policy_named
from mesh.experts.state import RoutingState


class RoutingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, with all that it was decided from.

    ``ranking`` is the policy's order with its scores (``best`` says which end is good); ``chosen`` are the first
    ``k`` of it, or of each peer the first. ``other_domains`` counts experts that serve something else,
    ``not_listed`` those left out of ``candidates`` and ``excluded`` to bound them.
    """

    candidates: tuple[Candidate, ...]
    excluded: tuple[Exclusion, ...]
    other_domains: int
    not_listed: int
    best: str
    ranking: tuple[Ranked, ...]
    chosen: tuple[Target, ...]


def decide(state: RoutingState, inputs: RoutingInputs) -> RoutingDecision:
    """Choose up to ``inputs.k`` experts. Pure: the same state and inputs give the same bytes, anywhere."""
    dice = Dice(inputs.seed)
    field = find_candidates(state, inputs, dice)
    policy = policy_named(inputs.policy)
    ranking = policy.rank(field.candidates, dice)
    return RoutingDecision(
        candidates=field.candidates,
        excluded=field.excluded,
        other_domains=field.other_domains,
        not_listed=field.not_listed,
        best=policy.best,
        ranking=ranking,
        chosen=_first(ranking, inputs),
    )


def _first(ranking: tuple[Ranked, ...], inputs: RoutingInputs) -> tuple[Target, ...]:
    chosen: list[Target] = []
    peers = {target.peer for target in inputs.excluded} if inputs.spread else set()
    for one in ranking:
        if len(chosen) == inputs.k:
            break
        if inputs.spread and one.peer in peers:
            continue
        peers.add(one.peer)
        chosen.append(one.target)
    return tuple(chosen)


def routed_fact(inputs: RoutingInputs, decision: RoutingDecision, as_of: int) -> RequestRouted:
    """The record of a decision that was made from the journal up to ``as_of``."""
    return RequestRouted(
        request=inputs.request,
        attempt=inputs.attempt,
        policy=inputs.policy,
        policy_version=inputs.policy_version,
        as_of=as_of,
        inputs=msgspec.Raw(msgspec.json.encode(inputs)),
        decision=msgspec.Raw(msgspec.json.encode(decision)),
    )


__all__ = ["RoutingDecision", "RoutingInputs", "Target", "decide", "routed_fact"]
