"""A domain that was guessed is only a guess: whether somebody offers another, and what a failure tells of it. Pure."""

from collections.abc import Sequence

from mesh.experts.plan import Plan, is_guess
from mesh.experts.state import RoutingState

# Failures that have nothing to do with the domain.
_WHATEVER_THE_DOMAIN = frozenset({"cancelled", "overloaded", "expired", "broken_stream", "too_large"})
_HOW_TO_NAME = "name one with --domain (domain= in Python, model mesh/<domain> over HTTP)"


def is_offered(state: RoutingState, plan: Plan, local: str) -> bool:
    """Whether somebody whom the plan may ask offers its domain."""
    only = local if plan.strategy == "local_only" else plan.peer
    offers = (offer for peer, known in state.offers.items() if only in ("", peer) for offer in known.values())
    return any(plan.domain in offer.domains for offer in offers)


def hint(kind: str, plans: Sequence[Plan], guessed: Sequence[str]) -> str:
    """What a failure of that ``kind`` adds where domains were guessed: the ``guessed``, else those of the plans."""
    domains = tuple(guessed) or tuple(dict.fromkeys(plan.domain for plan in plans if is_guess(plan)))
    if not domains or kind in _WHATEVER_THE_DOMAIN:
        return ""
    named = " and ".join(repr(domain) for domain in domains)
    subject = f"the domain {named} was" if len(domains) == 1 else f"the domains {named} were"
    return f"; {subject} guessed: {_HOW_TO_NAME}"


def with_hint(message: str, more: str) -> str:
    """A message that a hint goes on from, where there is one."""
    return message.rstrip(".") + more if more else message
