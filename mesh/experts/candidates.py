"""Who could answer a request, seen through the features that policies weigh, and who cannot, and why.

Liveness comes before load: a dead peer looks idle, and would be everybody's favourite.
"""

import msgspec

from mesh.experts.ejection import OUTLIER, half_open
from mesh.experts.exact import Dice
from mesh.experts.known import Offer, Peer, Target
from mesh.experts.links import HERE, LinkQuality, delay_ms, quality_at
from mesh.experts.rules import Rules
from mesh.experts.slow_start import warmth
from mesh.experts.state import RoutingState
from mesh.experts.tracks import Track, latency_at, success_at

# A decision is an event: what it lists is bounded, however large the mesh.
MAX_CANDIDATES = 32
MAX_EXCLUSIONS = 32
# The expected latency where nothing at all was measured yet.
PRIOR_LATENCY_MS = 1000.0
# How much of its score a candidate keeps in each state of health; one not rated yet is not held back.
HEALTH_FACTOR = {"excellent": 1.0, "good": 1.0, "": 1.0, "fair": 0.8, "poor": 0.5, "critical": 0.2}
_UNKNOWN_PEER = Peer()


class RoutingInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything besides the journal that a decision depends on.

    ``domain`` is what is routed by and ``domain_by`` where it came from: ``caller``, ``expert``,
    ``embedding``, ``keywords`` or ``default``; ``fallback`` where a guess came to nothing.
    ``expert`` and ``peer``, when not empty, admit only that one. ``excluded`` were tried already.
    ``scope`` is ``any`` or ``local``; ``spread`` takes at most one expert of each peer. ``now`` is Unix seconds.
    ``purpose`` is ``first``, ``retry``, ``hedge`` or ``moved`` (`mesh.experts.budget`). ``conversation`` is a digest of
    what the caller calls it; empty: none.
    """

    request: str
    attempt: int
    domain: str
    domain_by: str
    expert: str
    peer: str
    strategy: str
    policy: str
    policy_version: int
    k: int
    excluded: tuple[Target, ...]
    scope: str
    spread: bool
    now: float
    seed: int
    local: str
    needs: tuple[str, ...] = ()
    purpose: str = "first"
    conversation: str = ""
    rules: Rules = Rules()


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What policies see of a candidate.

    ``latency_ms`` is what is expected now; where nothing was measured (``measured`` false) it is the median of
    the other candidates without their round trips, plus its own, so that a fresh one gets its share, neither all
    nor nothing. ``in_flight`` are our own requests with it, ``others`` those of everybody else when it last said so;
    ``load`` is both as a share of what it can hold (0..1). ``last_dispatched`` is a journal position, ``link`` the
    connection to its peer. ``warm`` (0.1..1) grows while an expert is new or back, ``probe`` is one that was
    ejected and is to be tried. ``price`` is its operator's, ``reliability`` (0.5..1) what its
    vote weighs (`mesh.experts.reliability`).
    """

    latency_ms: float
    measured: bool
    in_flight: int
    others: int
    load: float
    success: float
    quality: float
    status: str
    last_dispatched: int
    offer_age_s: float
    link: LinkQuality = LinkQuality()
    warm: float = 1.0
    probe: bool = False
    price: float = 0.0
    reliability: float = 1.0

    @property
    def pending(self) -> int:
        """Requests with it now, as far as known."""
        return self.in_flight + self.others


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An expert that could answer."""

    peer: str
    expert: str
    model: str
    features: Features

    @property
    def target(self) -> Target:
        """Which expert on which peer."""
        return Target(self.peer, self.expert)


class Exclusion(msgspec.Struct, frozen=True, kw_only=True):
    """An expert that serves what is asked for but is not asked, and why."""

    peer: str
    expert: str
    reason: str
    detail: str


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in the running. ``not_listed`` counts what was left out of the lists to bound them."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[Exclusion, ...]
    other_domains: int
    not_listed: int


def find_candidates(state: RoutingState, inputs: RoutingInputs, dice: Dice) -> Field:
    """Sort all offers into candidates and exclusions, in the order of peer and expert."""
    fit: list[tuple[Target, Offer]] = []
    out: list[tuple[Target, Offer]] = []
    excluded: list[Exclusion] = []
    other_domains = 0
    tried = frozenset(inputs.excluded)
    for peer_id in sorted(state.offers):
        for expert, offer in sorted(state.offers[peer_id].items()):
            target = Target(peer_id, expert)
            if not _asked_for(target, offer, inputs):
                other_domains += 1
            elif problem := _problem(state, target, offer, inputs, tried):
                excluded.append(Exclusion(peer=peer_id, expert=expert, reason=problem[0], detail=problem[1]))
            elif _is_out(state.track(target), inputs):
                out.append((target, offer))
            else:
                fit.append((target, offer))
    needed = _needed(state, out, inputs, len(fit))
    excluded += [_exclusion(state, target, inputs) for target, _ in out if target not in needed]
    fit = sorted([*fit, *(one for one in out if one[0] in needed)], key=lambda one: one[0])
    listed = _sample(fit, dice)
    return Field(
        candidates=_with_features(state, listed, inputs),
        excluded=tuple(excluded[:MAX_EXCLUSIONS]),
        other_domains=other_domains,
        not_listed=len(fit) - len(listed) + max(0, len(excluded) - MAX_EXCLUSIONS),
    )


def _asked_for(target: Target, offer: Offer, inputs: RoutingInputs) -> bool:
    if inputs.expert and target.expert != inputs.expert:
        return False
    return not inputs.domain or inputs.domain in offer.domains


def _problem(
    state: RoutingState, target: Target, offer: Offer, inputs: RoutingInputs, tried: frozenset[Target]
) -> tuple[str, str] | None:
    if target in tried:
        return "already_tried", "earlier in this request"
    if (inputs.scope == "local" and target.peer != inputs.local) or (inputs.peer and target.peer != inputs.peer):
        return "out_of_scope", f"only {inputs.peer or inputs.local} was to be asked"
    return _dead(state, target, inputs) or _unfit(state, target, offer, inputs)


def _dead(state: RoutingState, target: Target, inputs: RoutingInputs) -> tuple[str, str] | None:
    if target.peer == inputs.local:
        return None
    peer = state.peers.get(target.peer, _UNKNOWN_PEER)
    if not peer.connected:
        return "not_connected", "there is no connection to the peer"
    if peer.liveness != "alive":
        return peer.liveness, "the peer has gone silent"
    return None


def _unfit(state: RoutingState, target: Target, offer: Offer, inputs: RoutingInputs) -> tuple[str, str] | None:
    if offer.expires_at and offer.expires_at <= inputs.now:
        return "offer_expired", f"{inputs.now - offer.expires_at:.1f} s ago"
    if not offer.available:
        return "unavailable", "its peer says that the expert cannot work now"
    if lacking := [need for need in inputs.needs if need not in offer.features]:
        return "lacks_feature", f"it does not offer {', '.join(lacking)}"
    track, capacity = state.track(target), offer.concurrency + offer.queue_limit
    pending = track.in_flight + _others(offer)
    if pending >= capacity:
        return "overloaded", f"{pending} requests, room for {capacity}"
    return None


def _is_out(track: Track, inputs: RoutingInputs) -> bool:
    """Whether it is ejected, and not due for a probe. A caller that wants just this peer gets it all the same."""
    if not track.ejected_until or inputs.peer or inputs.scope == "local":
        return False
    return not (half_open(track, inputs.now) and inputs.purpose == "first" and inputs.k == 1)


def _needed(
    state: RoutingState, out: list[tuple[Target, Offer]], inputs: RoutingInputs, others: int
) -> frozenset[Target]:
    """Who is asked although it is ejected, because too few others are left.

    Where nobody is left, all that are only worse than others; behind an open breaker one request at a time.
    """
    if not others and (outliers := [target for target, _ in out if state.track(target).ejected_by == OUTLIER]):
        return frozenset(outliers)
    short = inputs.k - others
    if short <= 0 or not out:
        return frozenset()
    idle = [target for target, _ in out if inputs.k > 1 or state.track(target).probing == 0]
    return frozenset(sorted(idle, key=lambda target: (state.track(target).ejected_until, target))[:short])


def _exclusion(state: RoutingState, target: Target, inputs: RoutingInputs) -> Exclusion:
    track = state.track(target)
    left = track.ejected_until - inputs.now
    detail = f"for {left:.1f} s more" if left > 0 else "to be tried by one request at a time"
    return Exclusion(peer=target.peer, expert=target.expert, reason=track.ejected_by, detail=detail)


def _others(offer: Offer) -> int:
    return max(0, offer.in_flight + offer.queued - offer.ours)


def _sample(fit: list[tuple[Target, Offer]], dice: Dice) -> list[tuple[Target, Offer]]:
    """At most MAX_CANDIDATES, drawn evenly: choosing among many has no more power than choosing among some."""
    if len(fit) <= MAX_CANDIDATES:
        return fit
    pool = list(range(len(fit)))
    for index in range(MAX_CANDIDATES):
        other = index + dice.below(len(pool) - index)
        pool[index], pool[other] = pool[other], pool[index]
    return [fit[index] for index in sorted(pool[:MAX_CANDIDATES])]


def _with_features(
    state: RoutingState, listed: list[tuple[Target, Offer]], inputs: RoutingInputs
) -> tuple[Candidate, ...]:
    now = inputs.now
    tracks = [state.track(target) for target, _ in listed]
    links = [_link(state, target, now) for target, _ in listed]
    works = [max(0.0, track.latency_ms - delay_ms(link)) for track, link in zip(tracks, links, strict=True)]
    prior = _prior([work for track, work in zip(tracks, works, strict=True) if track.latency_ms >= 0])
    return tuple(
        _candidate(state, target, offer, track, link, inputs, prior)
        for (target, offer), track, link in zip(listed, tracks, links, strict=True)
    )


def _link(state: RoutingState, target: Target, now: float) -> LinkQuality:
    return HERE if target.peer == state.local else quality_at(state.peers.get(target.peer, _UNKNOWN_PEER).link, now)


def _prior(works: list[float]) -> float:
    return sorted(works)[(len(works) - 1) // 2] if works else PRIOR_LATENCY_MS


def _candidate(
    state: RoutingState,
    target: Target,
    offer: Offer,
    track: Track,
    link: LinkQuality,
    inputs: RoutingInputs,
    prior: float,
) -> Candidate:
    now, pending = inputs.now, track.in_flight + _others(offer)
    peer = state.peers.get(target.peer, _UNKNOWN_PEER)
    return Candidate(
        peer=target.peer,
        expert=target.expert,
        model=offer.model,
        features=Features(
            latency_ms=round(latency_at(track, now, prior + delay_ms(link)), 3),
            measured=track.latency_ms >= 0,
            in_flight=track.in_flight,
            others=_others(offer),
            load=round(pending / (offer.concurrency + offer.queue_limit), 4),
            success=round(success_at(track, now), 4),
            quality=offer.quality,
            status=peer.status,
            last_dispatched=track.last_dispatched,
            offer_age_s=round(max(0.0, now - offer.offered_at), 3),
            link=link,
            warm=warmth(peer, offer, track, now, inputs.rules.slow_start_s),
            probe=track.ejected_until > 0,
            price=offer.price,
            reliability=state.weight(target),
        ),
    )
