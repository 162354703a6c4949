"""``node_resources``: this node runs out of processor, memory, disk or open files. One rule each, one group."""

from collections.abc import Callable, Iterator

from mesh.config import Severity
from mesh.health.forecasts import LIMITS, forecast_of, span
from mesh.health.rules.rule import Finding, Rule
from mesh.health.state import HealthState

GROUP = "node_resources"
# Below this nobody asks when it will be full.
_FORECAST_FROM_PERCENT = 75.0


def _finder(metric: str, words: str) -> Callable[[HealthState, float], Iterator[Finding]]:
    def find(state: HealthState, now: float) -> Iterator[Finding]:
        del now
        at, sample = state.own.samples[-1] if state.own.samples else (-1.0, None)
        value = -1.0 if sample is None or at < state.started_at else float(getattr(sample, metric))
        if value < 0:
            yield Finding(state.node, None, words)
            return
        evidence, text = {metric: round(value, 2)}, f"{value:.1f} % of {words}"
        worth_it = metric in LIMITS and value >= _FORECAST_FROM_PERCENT
        if worth_it and (ahead := forecast_of(state.own.samples, metric)) is not None:
            evidence["full_in_s"] = round(ahead.in_s, 1)
            text += f", full in {span(ahead.in_s)}"
        yield Finding(state.node, value, text, evidence)

    return find


def _rule(resource: str, words: str, *, severity: Severity, threshold: float, clear_ratio: float, for_s: float) -> Rule:
    return Rule(
        name=f"{GROUP}_{resource}",
        about=f"This node uses too much of {words}",
        severity=severity,
        threshold=threshold,
        unit="%",
        clear_ratio=clear_ratio,
        for_s=for_s,
        find=_finder(f"{resource}_percent", words),
        group=GROUP,
    )


RULES = (
    _rule("cpu", "the machine's processors", severity="warning", threshold=95, clear_ratio=0.9, for_s=300),
    _rule("memory", "the machine's memory", severity="error", threshold=92, clear_ratio=0.95, for_s=120),
    _rule("disk", "the disk that holds its home", severity="error", threshold=90, clear_ratio=0.97, for_s=60),
    _rule("open_files", "the open files it may have", severity="error", threshold=85, clear_ratio=0.9, for_s=60),
)
