"""Whether an expert is to be left alone for a while, and when it is to be asked again. Pure.

A circuit breaker opens after so many failures in a row (Nygard, Release It!). An outlier is ejected when it fails much
more often, or takes much longer, than the others of its domains (Envoy's outlier detection), and never more of them
than ``max_ejected`` allows. Each time it stays out twice as long. When the time is over it is half open: one request,
the probe, decides. What was decided is an event (``expert.ejected``, ``expert.readmitted``); who is asked follows.
"""

from mesh.events.vocabulary.experts import ExpertEjected, ExpertReadmitted
from mesh.experts.known import Target
from mesh.experts.rules import Rules
from mesh.experts.state import RoutingState
from mesh.experts.tracks import FORGOTTEN_AFTER_S, Track, median

BREAKER = "breaker_open"
OUTLIER = "ejected"
# From how many outcomes on a share of failures says something; less after an ejection.
ENOUGH = 8
ENOUGH_AGAIN = 4
# The share of late answers from which on it says something.
LATE = 0.5
# How much more often than the others an outlier fails, and how many others there must be to be slower than.
TIMES_THE_OTHERS = 2.0
OTHERS = 2
MAX_DOUBLINGS = 10


def judge(state: RoutingState, target: Target, rules: Rules) -> ExpertEjected | ExpertReadmitted | None:
    """What follows from the last outcome of ``target``, which is the last event of the state. Nothing, mostly."""
    track = state.track(target)
    if track.ejected_until > 0:
        return _of_a_probe(state, target, track, rules)
    why = _why(state, target, track, rules)
    return _eject(state, target, track, why, rules) if why else None


def half_open(track: Track, now: float) -> bool:
    """Whether its time is over and nobody is trying it yet."""
    return 0 < track.ejected_until <= now and track.probing == 0


def _of_a_probe(
    state: RoutingState, target: Target, track: Track, rules: Rules
) -> ExpertEjected | ExpertReadmitted | None:
    """An answer readmits it, if it did not take too long; being too slow, or failing, ejects it again."""
    if track.last_was_stale:
        return None
    slow = _slow(state, target, track.last_outcome_ms, rules)
    if not slow and rules.eject_slower and track.last_was_late:
        slow = f"another answered before its {track.last_outcome_ms:.0f} ms were over"
    if track.last_outcome == "answered" and not slow:
        return ExpertReadmitted(peer=target.peer, expert=target.expert, rule=track.ejected_by, as_of=state.position)
    if track.last_outcome == "failed":
        return _eject(state, target, track, (track.ejected_by, "the probe failed"), rules)
    if slow:
        return _eject(state, target, track, (track.ejected_by, f"the probe: {slow}"), rules)
    return None


def _why(state: RoutingState, target: Target, track: Track, rules: Rules) -> tuple[str, str] | None:
    if rules.breaker_failures and track.consecutive_failures >= rules.breaker_failures:
        return BREAKER, f"{track.consecutive_failures} failures in a row"
    detail = (
        _failing(state, target, track, rules)
        or _late(state, target, track, rules)
        or _slow(state, target, track.usual_ms, rules)
    )
    return (OUTLIER, detail) if detail and _room(state, target, rules) else None


def _failing(state: RoutingState, target: Target, track: Track, rules: Rules) -> str:
    if track.last_outcome != "failed" or not rules.eject_failing or track.failing < rules.eject_failing:
        return ""
    if track.outcomes_seen < _enough(track):
        return ""
    others = [other.failing for other in _others(state, target) if other.outcomes_seen >= ENOUGH]
    if not others or track.failing <= TIMES_THE_OTHERS * median(others):
        return ""
    return f"{track.failing:.0%} of its last {track.outcomes_seen} failed, of the others' {median(others):.0%}"


def _late(state: RoutingState, target: Target, track: Track, rules: Rules) -> str:
    """Whoever is hedged is taken back before it is known how slow it is: how often says it as well."""
    if not rules.eject_slower or not track.last_was_late or track.late < LATE or track.outcomes_seen < _enough(track):
        return ""
    others = [other.late for other in _others(state, target) if other.outcomes_seen >= ENOUGH]
    if not others or track.late <= TIMES_THE_OTHERS * median(others):
        return ""
    return f"{track.late:.0%} of its last {track.outcomes_seen} were late, of the others' {median(others):.0%}"


def _enough(track: Track) -> int:
    return ENOUGH_AGAIN if _before(track) else ENOUGH


def _slow(state: RoutingState, target: Target, took_ms: float, rules: Rules) -> str:
    if not rules.eject_slower or took_ms < 0:
        return ""
    others = [other.usual_ms for other in _others(state, target) if other.usual_ms >= 0]
    if len(others) < OTHERS or took_ms <= rules.eject_slower * median(others):
        return ""
    return f"it takes {took_ms:.0f} ms, the others {median(others):.0f} ms"


def _before(track: Track) -> int:
    """Ejections in a row: a while in which there was none makes the next one the first."""
    calm = track.ejected_until == 0 and track.last_outcome_at - track.readmitted_at > FORGOTTEN_AFTER_S
    return 0 if calm else track.ejections


def _room(state: RoutingState, target: Target, rules: Rules) -> bool:
    """Whether one more may be ejected of those that serve the same."""
    others = _others(state, target)
    out = sum(1 for other in others if other.ejected_until > 0)
    return out + 1 <= rules.max_ejected * (len(others) + 1)


def _others(state: RoutingState, target: Target) -> list[Track]:
    """Whoever else serves one of its domains."""
    mine = state.offers.get(target.peer, {}).get(target.expert)
    if mine is None:
        return []
    domains = frozenset(mine.domains)
    return [
        state.track(Target(peer, expert))
        for peer, offers in state.offers.items()
        for expert, offer in offers.items()
        if (peer, expert) != (target.peer, target.expert) and not domains.isdisjoint(offer.domains)
    ]


def _eject(state: RoutingState, target: Target, track: Track, why: tuple[str, str], rules: Rules) -> ExpertEjected:
    before = _before(track)
    return ExpertEjected(
        peer=target.peer,
        expert=target.expert,
        rule=why[0],
        detail=why[1],
        for_s=min(rules.eject_max_s, rules.eject_s * (1 << min(before, MAX_DOUBLINGS))),
        times=before + 1,
        as_of=state.position,
    )


__all__ = ["BREAKER", "OUTLIER", "half_open", "judge"]
