"""What an alert rule is: data, and one pure function that looks at the state."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mesh.config import Severity
from mesh.health.state import HealthState


@dataclass(frozen=True)
class Finding:
    """What a rule sees of one target.

    ``value`` is compared with the rule's threshold; a rule without one uses 1 for "holds" and 0 for "does not".
    None means that it cannot be known now, and leaves an alert as it is. ``since`` says from when on the
    condition held where that is known better than "since it was first seen".
    """

    target: str
    value: float | None
    text: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    since: float = 0.0


@dataclass(frozen=True)
class Rule:
    """A condition that somebody should know of.

    ``find`` gives one finding for each target that the rule watches; an alert about a target that it no longer
    mentions is resolved. The alert is raised once the condition has held for ``for_s`` seconds, and resolved
    when the value is below ``threshold * clear_ratio``. Overrides may name ``group`` instead of ``name``.
    """

    name: str
    about: str
    severity: Severity
    for_s: float
    find: Callable[[HealthState, float], Iterable[Finding]]
    threshold: float | None = None
    unit: str = ""
    clear_ratio: float = 1.0
    group: str = ""

    def holds(self, value: float, *, already: bool) -> bool:
        """Whether the condition holds, given whether it did so far."""
        if self.threshold is None:
            return value > 0
        return value >= self.threshold * (self.clear_ratio if already else 1.0)

    def summary(self, finding: Finding) -> str:
        """The finding in a sentence, with the limit that it broke."""
        limit = f" (limit {self.threshold:g} {self.unit})" if self.threshold is not None else ""
        return finding.text + limit


def short(peer: str) -> str:
    """The end of a PeerId, which is where they differ."""
    return f"…{peer[-8:]}" if len(peer) > 12 else peer
