"""A domain that was guessed is only a guess: what a failure tells of it. Pure."""

from collections.abc import Sequence

from mesh.experts.plan import Plan, is_guess

# Failures that have nothing to do with the domain.
_WHATEVER_THE_DOMAIN = frozenset({"cancelled", "overloaded", "expired", "broken_stream", "too_large"})
_HOW_TO_NAME = "name one with --domain (domain= in Python, model mesh/<domain> over HTTP)"


def hint(kind: str, plans: Sequence[Plan]) -> str:
    """What a failure of that ``kind`` adds where the domains of the plans were guessed."""
    domains = tuple(dict.fromkeys(plan.domain for plan in plans if is_guess(plan)))
    if not domains or kind in _WHATEVER_THE_DOMAIN:
        return ""
    named = " and ".join(repr(domain) for domain in domains)
    subject = f"the domain {named} was" if len(domains) == 1 else f"the domains {named} were"
    return f"; {subject} guessed: {_HOW_TO_NAME}"
