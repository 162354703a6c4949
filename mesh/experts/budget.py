"""How much work is done twice: retries and hedges against requests, over about the last minute. Pure.

A retry budget, not a number of retries a request, is what keeps a mesh in trouble from being asked even more: Finagle's
`RetryBudget`, gRPC's retry throttling. What a lost peer or a full queue sends elsewhere is not work done twice.
"""

import msgspec

from mesh.experts.exact import decay

WINDOW_S = 60.0
# Why something is asked: `first` (`probe`, where that is an expert that was ejected), again after a failure (`retry`),
# beside one that is late (`hedge`), or elsewhere because whoever was asked did no work (`moved`).
FIRST = frozenset({"first", "probe"})
EXTRA = frozenset({"retry", "hedge"})
# Failures that leave nobody working: asking another one adds no work to the mesh.
IDLE = frozenset({"disconnected", "unknown_expert", "unavailable", "overloaded", "invalid"})


class Work(msgspec.Struct):
    """Attempts of about the last minute, each counting less as it ages: ``asked`` for the first time, and ``extra``."""

    asked: float = 0.0
    extra: float = 0.0
    at: float = 0.0


def worked(work: Work, purpose: str, at: float) -> None:
    """One more attempt, at ``at`` (Unix seconds)."""
    fading = decay(at - work.at, WINDOW_S) if work.at else 1.0
    work.asked, work.extra, work.at = work.asked * fading, work.extra * fading, max(work.at, at)
    if purpose in EXTRA:
        work.extra += 1.0
    elif purpose in FIRST:
        work.asked += 1.0


def withheld(work: Work, purpose: str, now: float, *, share: float, reserve: float) -> str:
    """Why an attempt for that purpose is not made, or nothing. ``reserve`` is what may always be done in a minute."""
    if purpose not in EXTRA:
        return ""
    fading = decay(now - work.at, WINDOW_S) if work.at else 1.0
    extra, allowed = work.extra * fading, work.asked * fading * share + reserve
    if extra + 1.0 <= allowed:
        return ""
    return f"the {purpose} is over the budget: {extra:.1f} of {allowed:.1f} a minute are used"
