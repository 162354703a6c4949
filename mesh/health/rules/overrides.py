"""The rules as the operator wants them: ``[alerts.rules.<name>]`` over the built-in ones."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mesh.config import AlertRuleConfig, AlertsConfig
from mesh.errors import ConfigError
from mesh.health.rules import RULES
from mesh.health.rules.rule import Rule


def configured(config: AlertsConfig, rules: Sequence[Rule] = RULES) -> tuple[Rule, ...]:
    """The enabled rules with their overrides; a rule's own name wins over its group's.

    Raises ConfigError for a name that is no rule or group, and for a threshold that the rule cannot have.
    """
    known = {rule.name for rule in rules} | {rule.group for rule in rules if rule.group}
    for name in config.rules:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            raise ConfigError(
                f"alerts.rules.{name} is not an alert rule",
                remedy=f"Did you mean {near[0]}?" if near else f"The rules are {', '.join(sorted(known))}.",
            )
    return tuple(changed for rule in rules if (changed := _overridden(rule, config)) is not None)


def _overridden(rule: Rule, config: AlertsConfig) -> Rule | None:
    for name in (rule.group, rule.name):
        override = config.rules.get(name) if name else None
        if override is None:
            continue
        if not override.enabled:
            return None
        rule = replace(rule, **_changes(rule, override))
    return rule


def _changes(rule: Rule, override: AlertRuleConfig) -> dict[str, Any]:
    if override.threshold is not None and rule.threshold is None:
        raise ConfigError(
            f"alerts.rules.{rule.name}.threshold = {override.threshold:g}: this rule compares nothing with a threshold",
            remedy="Remove it, or set for_s, severity or enabled.",
        )
    if override.threshold is not None and override.threshold <= 0:
        raise ConfigError(
            f"alerts.rules.{rule.name}.threshold = {override.threshold:g} is not above 0",
            remedy=f"The built-in threshold is {rule.threshold:g} {rule.unit}; `enabled = false` turns the rule off.",
        )
    return override.model_dump(exclude={"enabled"}, exclude_none=True)
