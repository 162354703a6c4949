"""How far an expert's word is to be trusted, from what the journal says of its earlier words. Pure.

It is about honesty, not about speed or availability (`mesh.experts.tracks`): votes with and against a consensus,
canaries, and proofs of saying two things.
"""

import msgspec

# Each observation makes all earlier ones count so much: the last fifty or so are what matters.
KEEP = 0.98
# As if so many good votes had been seen of everybody: one dissent is no verdict.
PRIOR = 4.0
# What a wrong canary and a proven double answer count for, in dissents.
CANARY = 4.0
EQUIVOCATION = 50.0
# No weight is below this: 2f+1 of the least must outweigh f of the most (`mesh.experts.consensus`).
FLOOR = 0.5


class Reliability(msgspec.Struct):
    """``good`` and ``bad`` are faded counts; the others are plain ones, since the beginning."""

    good: float = 0.0
    bad: float = 0.0
    agreed: int = 0
    dissented: int = 0
    canaries_passed: int = 0
    canaries_failed: int = 0
    equivocated: int = 0


def voted(reliability: Reliability, *, agrees: bool) -> None:
    """It voted in a consensus that came to an outcome."""
    if agrees:
        reliability.agreed += 1
    else:
        reliability.dissented += 1
    _observe(reliability, good=1.0 if agrees else 0.0, bad=0.0 if agrees else 1.0)


def checked(reliability: Reliability, *, passed: bool) -> None:
    """It answered a question whose answer was known."""
    if passed:
        reliability.canaries_passed += 1
    else:
        reliability.canaries_failed += 1
    _observe(reliability, good=1.0 if passed else 0.0, bad=0.0 if passed else CANARY)


def equivocated(reliability: Reliability) -> None:
    """It signed two different answers to one request."""
    reliability.equivocated += 1
    _observe(reliability, good=0.0, bad=EQUIVOCATION)


def weight(reliability: Reliability) -> float:
    """From `FLOOR` to 1, which is also what somebody new weighs: ``½ + ½ (good + 4) / (good + bad + 4)``."""
    share = (reliability.good + PRIOR) / (reliability.good + reliability.bad + PRIOR)
    return round(FLOOR + (1.0 - FLOOR) * share, 4)


def _observe(reliability: Reliability, *, good: float, bad: float) -> None:
    reliability.good = reliability.good * KEEP + good
    reliability.bad = reliability.bad * KEEP + bad
