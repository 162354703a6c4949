"""docs/health.md says what the code does."""

from pathlib import Path

import pytest

from mesh.config import AlertsConfig, HealthConfig
from mesh.health.alerting import MAX_OPEN_PER_RULE
from mesh.health.monitor import COALESCE_S, FIRST_SAMPLE_S
from mesh.health.records import COUNTS_AFTER_S, FORGET_AFTER_S, START_GRACE_S
from mesh.health.rules import RULES
from mesh.health.rules.overrides import configured
from mesh.health.score import MIN_REQUESTS, NODE_CURVES, PEER_CURVES, UNITS
from mesh.health.status import AGREEING_SAMPLES, FLOORS, GONE_AFTER_S, MARGIN

DOC = Path(__file__).parents[2] / "docs" / "health.md"
TEXT = " ".join(DOC.read_text().split())


def rows(header: str) -> list[str]:
    lines = DOC.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(header)) + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return lines[start:end]


def curve_rows() -> list[str]:
    return [
        f"| `{name}` | {of} | {UNITS[name]} | {', '.join(f'{value:g} → {part:g}' for value, part in curve)} |"
        for of, curves in (("node", NODE_CURVES), ("peer", PEER_CURVES))
        for name, curve in curves.items()
    ]


def rule_rows() -> list[str]:
    found = []
    for rule in RULES:
        limit = clear = "–"
        if rule.threshold is not None:
            limit = f"{rule.threshold:.10g} {rule.unit}"
            clear = f"{rule.threshold * rule.clear_ratio:.10g} {rule.unit}"
        found.append(f"| `{rule.name}` | {rule.severity} | {limit} | {clear} | {rule.for_s:g} s | {rule.about} |")
    return found


def test_the_curves():
    assert rows("| factor |") == curve_rows()


def test_the_thresholds():
    assert rows("| status |") == [f"| `{status}` | {floor:g} |" for status, floor in FLOORS.items()]


def test_the_rules():
    assert rows("| rule |") == rule_rows()


@pytest.mark.parametrize(
    "sentence",
    [
        f"`health.interval_s` seconds ({HealthConfig().interval_s:g} by default",
        f"`health.window` samples ({HealthConfig().window} by default)",
        f"more than {MARGIN:g} in {AGREEING_SAMPLES} samples in a row",
        f"has been gone for {GONE_AFTER_S:g} s, is `critical`",
        f"`success` counts from {MIN_REQUESTS} requests",
        f"have {START_GRACE_S:g} s to come back",
        f"connection to it has lasted {COUNTS_AFTER_S:g} s",
        f"At most {MAX_OPEN_PER_RULE} alerts of one rule",
        f"gone for {FORGET_AFTER_S / 86400:g} days",
        f"within {COALESCE_S:g} s of a peer coming or going",
    ],
)
def test_the_numbers(sentence):
    assert sentence in TEXT


def test_the_first_sample():
    assert FIRST_SAMPLE_S == 1
    assert "one second after the start" in TEXT


def test_the_example_is_accepted():
    import tomllib

    example = DOC.read_text().split("```toml\n")[1].split("```")[0]
    rules = configured(AlertsConfig.model_validate(tomllib.loads(example)["alerts"]))
    assert "expert_unavailable" not in {rule.name for rule in rules}
    assert next(rule for rule in rules if rule.name == "high_latency").threshold == 500
