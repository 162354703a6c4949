"""All that health decides, in one pure step: changes of status first, then alerts."""

from collections.abc import Iterator, Sequence

from mesh.events.envelope import Fact
from mesh.health import alerting
from mesh.health.rules.rule import Rule
from mesh.health.state import HealthState
from mesh.health.status import GONE_AFTER_S, status_changes


def decide(state: HealthState, rules: Sequence[Rule], now: float) -> list[Fact]:
    """The facts that follow from the state at ``now``; none once they are folded."""
    return [*status_changes(state, now), *alerting.evaluate(state, rules, now)]


def next_due(state: HealthState, rules: Sequence[Rule], now: float) -> float:
    """The next time after ``now`` at which time alone may change what `decide` says; infinity for never."""
    return min(
        (due for due in (alerting.next_due(state, rules, now), *_dues(state)) if due > now),
        default=float("inf"),
    )


def _dues(state: HealthState) -> Iterator[float]:
    yield state.grace_until
    for name, peer in state.peers.items():
        if peer.gone_since:
            yield state.missed_since(peer) + GONE_AFTER_S
        else:
            yield state.counts_from(name)
            yield from (state.believed_until(name, offer) for offer in state.experts.get(name, {}).values())
