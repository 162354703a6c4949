"""Deciding whom to ask: a pure function of the folded journal, the request, a recorded time and a recorded seed."""

import msgspec

from mesh.events.vocabulary.requests import RequestRouted
from mesh.experts.budget import withheld
from mesh.experts.candidates import Candidate, Exclusion, RoutingInputs, find_candidates
from mesh.experts.exact import Dice
from mesh.experts.known import Target
from mesh.experts.policies import Ranked, policy_named
from mesh.experts.state import RoutingState


class RoutingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, with all that it was decided from.

    ``ranking`` is the policy's order with its scores (``best`` says which end is good); ``chosen`` are the first
    ``k`` of it, or of each peer the first. ``other_domains`` counts experts that serve something else,
    ``not_listed`` those left out of ``candidates`` and ``excluded`` to bound them. ``withheld`` says why nobody is
    chosen of those that could be.
    """

    candidates: tuple[Candidate, ...]
    excluded: tuple[Exclusion, ...]
    other_domains: int
    not_listed: int
    best: str
    ranking: tuple[Ranked, ...]
    chosen: tuple[Target, ...]
    withheld: str = ""


def decide(state: RoutingState, inputs: RoutingInputs) -> RoutingDecision:
    """Choose up to ``inputs.k`` experts. Pure: the same state and inputs give the same bytes, anywhere."""
    dice = Dice(inputs.seed)
    field = find_candidates(state, inputs, dice)
    policy = policy_named(inputs.policy)
    ranking = _probe_first(policy.rank(field.candidates, dice, inputs.conversation), field.candidates, inputs)
    rules = inputs.rules
    spent = withheld(state.work, inputs.purpose, inputs.now, share=rules.retry_budget, reserve=rules.retry_reserve)
    return RoutingDecision(
        candidates=field.candidates,
        excluded=field.excluded,
        other_domains=field.other_domains,
        not_listed=field.not_listed,
        best=policy.best,
        ranking=ranking,
        chosen=() if spent else _first(ranking, inputs),
        withheld=spent,
    )


def _probe_first(
    ranking: tuple[Ranked, ...], candidates: tuple[Candidate, ...], inputs: RoutingInputs
) -> tuple[Ranked, ...]:
    """One that was ejected and is due is tried by the next request, whatever the policy thinks of it."""
    due = {one.target for one in candidates if one.features.probe}
    if not due or inputs.k > 1:
        return ranking
    probes = tuple(msgspec.structs.replace(one, note="a probe: it was ejected") for one in ranking if one.target in due)
    return probes + tuple(one for one in ranking if one.target not in due)


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


def routed_fact(inputs: RoutingInputs, decision: RoutingDecision, as_of: int, part: int = 0) -> RequestRouted:
    """The record of a decision that was made from the journal up to ``as_of``, for a part of what was asked."""
    return RequestRouted(
        request=inputs.request,
        attempt=inputs.attempt,
        policy=inputs.policy,
        policy_version=inputs.policy_version,
        as_of=as_of,
        inputs=msgspec.Raw(msgspec.json.encode(inputs)),
        decision=msgspec.Raw(msgspec.json.encode(decision)),
        part=part,
    )


__all__ = ["RoutingDecision", "RoutingInputs", "Target", "decide", "routed_fact"]
