"""Questions whose answers are known, put to experts as if a caller had asked: which, whom, when. Pure."""

from collections.abc import Sequence

from mesh.config import CanaryConfig
from mesh.experts.exact import Dice
from mesh.experts.known import Target
from mesh.experts.normalise import exact_group, group_of
from mesh.experts.state import RoutingState

_STEPS = 1000


def wait_s(dice: Dice, interval_s: float) -> float:
    """How long until the next one: between half of the interval and half more than it, so that nobody can expect it."""
    return interval_s * (0.5 + dice.below(_STEPS) / _STEPS)


def draw(state: RoutingState, canaries: Sequence[CanaryConfig], dice: Dice) -> tuple[CanaryConfig, Target] | None:
    """A question and an expert that can be asked it now, each pair as likely as any; None without any."""
    pairs = [
        (canary, Target(peer, expert))
        for canary in canaries
        for peer in sorted(state.offers)
        for expert, offer in sorted(state.offers[peer].items())
        if canary.domain in offer.domains and offer.available and _reachable(state, peer)
    ]
    return pairs[dice.below(len(pairs))] if pairs else None


def name_of(canary: CanaryConfig) -> str:
    """What it is called in the journal, which does not tell the question."""
    return exact_group(canary.question)[:16]


def passes(canary: CanaryConfig, text: str) -> bool:
    """Whether an answer says what is expected, however it is dressed."""
    return group_of(text) == group_of(canary.expected)


def _reachable(state: RoutingState, peer: str) -> bool:
    known = state.peers.get(peer)
    return peer == state.local or (known is not None and known.connected and known.liveness == "alive")
