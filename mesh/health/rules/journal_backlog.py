"""``journal_backlog``: events wait to be stored, so answers wait too."""

from collections.abc import Iterator

from mesh.health.rules.rule import Finding, Rule
from mesh.health.state import HealthState


def find(state: HealthState, now: float) -> Iterator[Finding]:
    """One finding, of the node's own journal."""
    del now
    at, sample = state.own.samples[-1] if state.own.samples else (-1.0, None)
    if sample is None or at < state.started_at or sample.journal_backlog < 0:
        yield Finding(state.node, None, "the journal's backlog is not known")
        return
    backlog = float(sample.journal_backlog)
    yield Finding(state.node, backlog, f"{backlog:.0f} events wait to be stored", {"journal_backlog": backlog})


RULE = Rule(
    name="journal_backlog",
    about="Events wait to be stored in the journal",
    severity="error",
    threshold=10_000.0,
    unit="events",
    clear_ratio=0.5,
    for_s=30.0,
    find=find,
)
