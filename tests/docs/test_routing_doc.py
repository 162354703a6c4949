"""docs/routing.md lags behind nothing that it lists."""

import re
from pathlib import Path

from mesh.config import RoutingConfig
from mesh.experts import candidates
from mesh.experts.candidates import HEALTH_FACTOR, MAX_CANDIDATES, MAX_EXCLUSIONS
from mesh.experts.ejection import BREAKER, OUTLIER
from mesh.experts.policies import POLICIES
from mesh.experts.rules import Rules
from mesh.experts.strategies import STRATEGIES
from mesh.experts.tracks import FAILURES_TAU_S, LATENCY_TAU_S

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "routing.md").read_text()


def test_every_policy_and_strategy_is_listed() -> None:
    for one in (*POLICIES, *STRATEGIES):
        assert f"| `{one.name}` |" in TEXT


def test_every_reason_for_an_exclusion_is_listed() -> None:
    source = Path(candidates.__file__).read_text()
    reasons = set(re.findall(r'return "([a-z_]+)", ', source)) | {"suspected", "down", BREAKER, OUTLIER}
    assert len(reasons) == 11
    for reason in reasons:
        assert f"`{reason}`" in TEXT


def test_the_rules_have_the_defaults_of_the_settings() -> None:
    for name in Rules.__struct_fields__:
        default = RoutingConfig.model_fields[name].default
        assert getattr(Rules(), name) == default
        assert f"`{name} = {default:g}`" in TEXT, name


def test_the_figures_are_those_of_the_code() -> None:
    assert f"at most {MAX_CANDIDATES} candidates" in TEXT
    assert f"and {MAX_EXCLUSIONS} exclusions" in TEXT
    assert f"about {LATENCY_TAU_S:.0f} s" in TEXT
    assert f"about {FAILURES_TAU_S:.0f} s" in TEXT
    for status in ("fair", "poor", "critical"):
        assert f"{HEALTH_FACTOR[status]:g} for {status}" in TEXT
