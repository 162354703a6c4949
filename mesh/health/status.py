"""From scores to a status that does not flap: thresholds, a margin around them, and several samples that agree."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from mesh.events.vocabulary.health import StatusChanged
from mesh.health.records import PeerHealth, Standing
from mesh.health.score import node_factors, peer_factors, score
from mesh.health.state import HealthState

Status = Literal["excellent", "good", "fair", "poor", "critical"]
STATUSES: tuple[Status, ...] = get_args(Status)  # best first
# The lowest score of each status.
FLOORS: dict[Status, float] = {"excellent": 0.9, "good": 0.75, "fair": 0.5, "poor": 0.25, "critical": 0.0}
# A status is left only when the score is beyond its threshold by this much …
MARGIN = 0.03
# … in this many samples in a row.
AGREEING_SAMPLES = 3
# A peer that has been gone for this long, or is confirmed down, is critical.
GONE_AFTER_S = 5.0
CONNECTION = "connection"


def status_of(value: float) -> Status:
    """The status of a score that stands by itself."""
    return next(status for status in STATUSES if value >= FLOORS[status])


def called_for(value: float, current: str) -> str:
    """The status that one score calls for when ``current`` is what holds: the same within the margin."""
    if current not in FLOORS:
        return status_of(value)
    rank = STATUSES.index(current)
    ceiling = FLOORS[STATUSES[rank - 1]] if rank else 1.0
    if FLOORS[current] - MARGIN <= value <= ceiling + MARGIN:
        return current
    return status_of(value)


def settle(scores: Sequence[float], current: str) -> str:
    """The status after ``scores`` (oldest first): changed only when all of them call for it, and then the least far.

    Settling again from the result over the same scores gives the result.
    """
    ranks = [STATUSES.index(called_for(value, current)) for value in scores]
    if not ranks or current not in FLOORS:
        return called_for(scores[-1], current) if scores else current
    rank = STATUSES.index(current)
    if min(ranks) > rank:
        return STATUSES[min(ranks)]
    if max(ranks) < rank:
        return STATUSES[max(ranks)]
    return current


def status_changes(state: HealthState, now: float) -> Iterator[StatusChanged]:
    """Every change of status that the samples and connections call for at ``now``; none once they are folded."""
    own = [(at, node_factors(sample)) for at, sample in state.own.samples if at >= state.started_at]
    yield from _change(state.node, "node", state.own.standing, own)
    for name, peer in state.peers.items():
        if not is_gone(state, peer, now):
            since = max(peer.connected_since, state.started_at)
            samples = [(at, peer_factors(sample)) for at, sample in peer.samples if at >= since]
            yield from _change(name, "peer", peer.standing, samples if state.here(name) else [])
        elif peer.acquainted and peer.standing.status != "critical":
            yield _changed(name, "peer", peer.standing, "critical", {CONNECTION: 0.0})


def is_gone(state: HealthState, peer: PeerHealth, now: float) -> bool:
    """Whether the peer has been missing for longer than a reconnect takes."""
    return bool(peer.gone_since) and (peer.down or now - state.missed_since(peer) >= GONE_AFTER_S)


def _change(
    target: str, kind: str, standing: Standing, samples: Sequence[tuple[float, dict[str, float]]]
) -> Iterator[StatusChanged]:
    known = [factors for _, factors in samples if factors]
    if not known:
        return
    current = "" if CONNECTION in standing.factors else standing.status
    needed = AGREEING_SAMPLES if current else 1
    if len(known) < needed:
        return
    status = settle([score(factors) for factors in known[-needed:]], current)
    if status != standing.status:
        yield _changed(target, kind, standing, status, known[-1])


def _changed(target: str, kind: str, standing: Standing, status: str, factors: dict[str, float]) -> StatusChanged:
    return StatusChanged(
        target=target,
        target_kind=kind,
        previous=standing.status,
        status=status,
        score=score(factors),
        factors=factors,
    )
