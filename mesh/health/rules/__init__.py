"""The alert rules. Adding one: its file, its line here, its row in docs/health.md (a test compares them)."""

from mesh.health.rules import (
    domain_uncovered,
    expert_unavailable,
    high_latency,
    journal_backlog,
    node_resources,
    peer_lost,
)
from mesh.health.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    peer_lost.RULE,
    high_latency.RULE,
    expert_unavailable.RULE,
    domain_uncovered.RULE,
    *node_resources.RULES,
    journal_backlog.RULE,
)
