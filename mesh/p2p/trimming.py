"""Which connections to give up when there are too many: the least useful, and never one that is needed. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Who answered us this recently is worth keeping.
RECENT_S = 300.0
# Weights of the parts of the score; together 1.
ANSWERS, DOMAINS, LINK, AGE = 0.4, 0.3, 0.2, 0.1
# Where each part is half of what it can be: seconds since the last answer, domains served, round trip, age.
_HALF_ANSWER_S, _HALF_DOMAINS, _HALF_RTT_MS, _HALF_AGE_S = 600.0, 1.0, 100.0, 600.0
# One decision names at most so many.
MAX_TRIMMED = 256


@dataclass(frozen=True)
class Use:
    """What a peer is good for: the domains it serves, and when it last answered us (Unix seconds; 0: never)."""

    domains: frozenset[str] = frozenset()
    answered_at: float = 0.0


@dataclass(frozen=True)
class Standing:
    """A connected peer as the decision sees it. -1: not measured; ``answered_s`` ago it last answered us (-1: never).

    ``in_flight`` counts calls both ways, ``sole_domains`` the domains that nobody else who is connected serves.
    """

    peer: str
    connected_s: float
    static: bool = False
    in_flight: int = 0
    sole_domains: int = 0
    domains: int = 0
    answered_s: float = -1.0
    rtt_ms: float = -1.0
    loss: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Whom to let go, the least useful first, with the parts of each score; why the protected ones stay."""

    trimmed: tuple[tuple[Standing, dict[str, float]], ...]
    protected: Mapping[str, int]
    remaining: int


def protection(standing: Standing, grace_s: float) -> str:
    """Why the peer stays: ``static``, ``in_flight``, ``sole_domain``, ``recent`` or ``new``; empty: it may go."""
    if standing.static:
        return "static"
    if standing.in_flight:
        return "in_flight"
    if standing.sole_domains:
        return "sole_domain"
    if 0 <= standing.answered_s < RECENT_S:
        return "recent"
    return "new" if standing.connected_s < grace_s else ""


def parts(standing: Standing) -> dict[str, float]:
    """The parts of the score, each from 0 to its weight; their sum is the score, higher is more useful."""
    answered = 0.0 if standing.answered_s < 0 else _HALF_ANSWER_S / (_HALF_ANSWER_S + standing.answered_s)
    rtt = _HALF_RTT_MS if standing.rtt_ms < 0 else standing.rtt_ms
    link = (1.0 - min(1.0, max(0.0, standing.loss))) * _HALF_RTT_MS / (_HALF_RTT_MS + rtt)
    return {
        "answers": round(ANSWERS * answered, 4),
        "domains": round(DOMAINS * standing.domains / (_HALF_DOMAINS + standing.domains), 4),
        "link": round(LINK * link, 4),
        "age": round(AGE * standing.connected_s / (_HALF_AGE_S + standing.connected_s), 4),
    }


def score(standing: Standing) -> float:
    """How useful the peer is, 0 to 1."""
    return round(sum(parts(standing).values()), 4)


def plan(standings: Sequence[Standing], *, low: int, high: int, grace_s: float) -> Plan | None:
    """Whom to let go so that ``low`` are left; None while there are not more than ``high``, or nobody is up for it."""
    if len(standings) <= high:
        return None
    reasons = {standing.peer: protection(standing, grace_s) for standing in standings}
    candidates = sorted((s for s in standings if not reasons[s.peer]), key=lambda s: (score(s), s.peer))
    going = candidates[: min(len(standings) - low, MAX_TRIMMED)]
    if not going:
        return None
    return Plan(
        trimmed=tuple((standing, parts(standing)) for standing in going),
        protected=dict(sorted(Counter(reason for reason in reasons.values() if reason).items())),
        remaining=len(standings) - len(going),
    )


def sole_domains(uses: Mapping[str, Use], connected: Sequence[str], own: frozenset[str]) -> Mapping[str, int]:
    """How many domains each connected peer alone serves; what this node serves itself (``own``) nobody serves alone."""
    served = Counter(domain for peer in connected for domain in uses.get(peer, Use()).domains)
    return {
        peer: sum(served[domain] == 1 and domain not in own for domain in uses.get(peer, Use()).domains)
        for peer in connected
    }
