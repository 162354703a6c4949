"""Rules made while the node runs: recorded, put into force at once, and in force again after a restart."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.events.envelope import Fact
from mesh.events.journal import Journal
from mesh.events.vocabulary.access import PeerAllowed, PeerBlocked, PeerDisallowed, PeerUnblocked
from mesh.p2p.access import MAX_RULES, Access, AccessError, Kind, canonical
from mesh.p2p.access_state import AccessState, ListName

# How the past participle of each list is spelt in messages, and the command that takes an entry back.
_WORDS: dict[ListName, tuple[str, str]] = {"block": ("blocked", "unblock"), "allow": ("allowed", "disallow")}


@dataclass(frozen=True)
class RuleChange:
    """What became of a command: ``changed`` is false where the rule was there already; ``closed`` counts peers."""

    party: str
    changed: bool
    closed: int


class AccessControl:
    """The block and allow lists of a running node: those of its configuration, and those of its journal.

    ``enforce`` puts rules into force and returns how many peers it cut off. Raises ConfigError for an entry of
    ``block`` or ``allow`` (the configuration's) that is no rule.
    """

    def __init__(
        self,
        state: AccessState,
        journal: Journal,
        *,
        block: Iterable[str],
        allow: Iterable[str],
        enforce: Callable[[Access], Awaitable[int]],
    ) -> None:
        self._state = state
        self._journal = journal
        self._configured: dict[ListName, tuple[str, ...]] = {
            "block": configured("block", block),
            "allow": configured("allow", allow),
        }
        self._enforce = enforce
        self._one_at_a_time = asyncio.Lock()

    @property
    def access(self) -> Access:
        """The rules in force."""
        return self._state.access(self._configured["block"], self._configured["allow"])

    async def start(self) -> None:
        """Put into force what the configuration and the journal say."""
        await self._enforce(self.access)

    async def block(self, party: str, actor: str, reason: str) -> RuleChange:
        """Keep a peer or a network out, from now on. Raises AccessError."""
        kind, name = self._new_rule(party)
        return await self._add("block", name, PeerBlocked(party=name, kind=kind, actor=actor, reason=reason))

    async def allow(self, party: str, actor: str, reason: str) -> RuleChange:
        """Put a peer or a network on the allow list: whoever is not on it is cut off. Raises AccessError."""
        kind, name = self._new_rule(party)
        return await self._add("allow", name, PeerAllowed(party=name, kind=kind, actor=actor, reason=reason))

    async def unblock(self, party: str, actor: str, reason: str) -> RuleChange:
        """Lift a block. Raises AccessError when there is none."""
        kind, name = canonical(party)
        return await self._remove("block", name, PeerUnblocked(party=name, kind=kind, actor=actor, reason=reason))

    async def disallow(self, party: str, actor: str, reason: str) -> RuleChange:
        """Take an entry off the allow list. Raises AccessError when it is not on it."""
        kind, name = canonical(party)
        return await self._remove("allow", name, PeerDisallowed(party=name, kind=kind, actor=actor, reason=reason))

    def _new_rule(self, party: str) -> tuple[Kind, str]:
        kind, name = canonical(party)
        if name == self._journal.origin:
            raise AccessError(f"{name} is this node itself", remedy="Name another peer.")
        rules = len(self.access.block) + len(self.access.allow)
        if rules >= MAX_RULES:
            raise AccessError(
                f"there are {rules} rules; the limit is {MAX_RULES}",
                remedy="Block networks instead of single addresses, or lift old rules: `mesh peers rules` lists them.",
            )
        return kind, name

    async def _add(self, listed: ListName, name: str, fact: Fact) -> RuleChange:
        async with self._one_at_a_time:
            if name in self._state.of(listed) or name in self._configured[listed]:
                return RuleChange(name, changed=False, closed=0)
            return await self._change(name, fact)

    async def _remove(self, listed: ListName, name: str, fact: Fact) -> RuleChange:
        participle, undo = _WORDS[listed]
        async with self._one_at_a_time:
            if name in self._configured[listed]:
                raise AccessError(
                    f"{name} is {participle} by [overlay] {listed} in config.toml",
                    remedy="Take it out there and restart the node.",
                )
            if name not in self._state.of(listed):
                raise AccessError(
                    f"{name} is not on the {listed} list",
                    remedy=f"`mesh peers rules` lists what can be named in `mesh peers {undo}`.",
                )
            return await self._change(name, fact)

    async def _change(self, name: str, fact: Fact) -> RuleChange:
        kind, _ = canonical(name)
        emission = self._journal.emit(fact, subject=name if kind == "peer" else "")
        closed = await self._enforce(self.access)
        await emission.stored()
        return RuleChange(name, changed=True, closed=closed)


def configured(listed: ListName, entries: Iterable[str]) -> tuple[str, ...]:
    """``[overlay] block`` or ``allow`` in canonical form. Raises ConfigError that names the wrong entry."""
    try:
        return tuple(canonical(entry)[1] for entry in entries)
    except AccessError as error:
        raise ConfigError(f"overlay.{listed}: {error.what}", remedy=error.remedy) from error
