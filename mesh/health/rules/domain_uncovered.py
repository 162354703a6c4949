"""``domain_uncovered``: no expert is left for a domain that had one."""

from collections import Counter
from collections.abc import Iterator

from mesh.health.rules.rule import Finding, Rule
from mesh.health.state import HealthState


def find(state: HealthState, now: float) -> Iterator[Finding]:
    """One finding for each domain of which an expert is remembered."""
    known: Counter[str] = Counter()
    live: Counter[str] = Counter()
    perhaps: set[str] = set()
    for peer, offers in state.experts.items():
        for offer in offers.values():
            known.update(offer.domains)
            if not state.live(peer, offer, now):
                continue
            if now >= state.counts_from(peer):
                live.update(offer.domains)
            else:
                perhaps.update(offer.domains)
    for domain in sorted(known):
        missing = None if now < state.grace_until or domain in perhaps else 1.0
        covered = f"domain {domain} has {live[domain]} of {known[domain]} experts"
        evidence = {"experts_live": float(live[domain]), "experts_known": float(known[domain])}
        yield Finding(domain, 0.0 if live[domain] else missing, covered, evidence)


RULE = Rule(
    name="domain_uncovered",
    about="A domain that had an expert has none left that can be asked",
    severity="error",
    for_s=15.0,
    find=find,
)
