"""Which events of this node others should have, how soon, and from whom this node takes theirs. Pure."""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mesh.config import ShareConfig
from mesh.errors import ConfigError
from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary import FACTS, alerts, experts, health, journal, node

# What a feed may hold. Requests never leave the node that took them in.
FAMILIES = ("node", "peer", "expert", "health", "alert")
_SEALED = journal.JournalSealed.type
_NAME = re.compile(rf"(?:{'|'.join(FAMILIES)})\.[a-z_]{{1,40}}")
# Facts that others should know within seconds; all others wait for the interval.
_URGENT: frozenset[type[Fact]] = frozenset(
    {
        experts.ExpertRegistered,
        experts.ExpertDeregistered,
        experts.ExpertExpired,
        health.StatusChanged,
        node.NodeStarted,
        node.NodeStopped,
        *alerts.FACTS,
    }
)
# Of these only the newest in a batch says anything.
_NEWEST: dict[type[Fact], Callable[[Any], Hashable]] = {
    experts.ExpertOffered: lambda fact: fact.expert,
    health.NodeSampled: lambda _fact: None,
    health.PeerSampled: lambda fact: fact.peer,
    journal.JournalSealed: lambda _fact: None,
}


def may_be_shared(fact_type: str) -> bool:
    """Whether a feed may hold facts of this type, known to this release or not."""
    return fact_type == _SEALED or _NAME.fullmatch(fact_type) is not None


def shared_facts(names: Sequence[str]) -> frozenset[type[Fact]]:
    """The facts that families and types name. Raises ConfigError for what is none, or may not be shared."""
    found = {fact for fact in FACTS if fact.type in names or fact.type.partition(".")[0] in names}
    found -= {fact for fact in found if fact.type not in names and not may_be_shared(fact.type)}
    known = {name for fact in FACTS if may_be_shared(fact.type) for name in (fact.type, fact.type.partition(".")[0])}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ConfigError(
            f"[share] facts: {', '.join(unknown)} is no fact that is shared",
            remedy=f"Families: {', '.join(FAMILIES)}; or a type such as alert.raised, or {_SEALED}.",
        )
    return frozenset(found)


class Policy:
    """The share policy of the node ``own``. Raises ConfigError for facts that cannot be shared."""

    def __init__(self, own: str, config: ShareConfig) -> None:
        self._own = own
        self.facts = shared_facts(config.facts) if config.enabled else frozenset[type[Fact]]()
        self._take = frozenset(config.take)
        self.interval_s = config.interval_s
        self.urgent_s = min(config.urgent_s, config.interval_s)

    def shares(self, event: Event) -> bool:
        """Whether others should have this event of ours. What we heard of others' experts they tell themselves."""
        fact = event.fact
        if isinstance(fact, experts.ExpertOffered | experts.ExpertExpired):
            return fact.peer == self._own
        return type(fact) in self.facts

    def key(self, event: Event) -> Hashable:
        """An event that is not sent yet is dropped for a newer one with the same key."""
        key = _NEWEST.get(type(event.fact))
        return event.position if key is None else (type(event.fact), key(event.fact))

    def wait_s(self, event: Event) -> float:
        """How long it may wait for others to go with."""
        return self.urgent_s if type(event.fact) in _URGENT else self.interval_s

    def takes(self, origin: str) -> bool:
        """Whether this node takes the feed of another."""
        return origin != self._own and ("*" in self._take or origin in self._take)
