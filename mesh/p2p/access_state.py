"""The rules that were made while the node ran, folded from its journal, so that they hold after a restart. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from mesh.events.envelope import Event, Fact
from mesh.events.live_state import LiveStruct
from mesh.events.vocabulary.access import PeerAllowed, PeerBlocked, PeerDisallowed, PeerUnblocked
from mesh.p2p.access import Access

ListName = Literal["block", "allow"]


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a rule, why, and at which position of the journal."""

    actor: str
    reason: str
    position: int


class AccessState(LiveStruct, msgspec.Struct):
    """The lists of the node ``local``. ``apply`` is the only thing that changes it."""

    local: str
    block: dict[str, Ruling] = {}
    allow: dict[str, Ruling] = {}

    def apply(self, event: Event) -> None:
        """Fold one event of the journal; what other nodes block is no business of ours."""
        fold = _FOLDS.get(type(event.fact))
        if fold is not None and event.origin == self.local:
            fold(self, event.fact, event)

    def of(self, name: ListName) -> Mapping[str, Ruling]:
        """The rules of one list."""
        return self.block if name == "block" else self.allow

    def access(self, block: tuple[str, ...] = (), allow: tuple[str, ...] = ()) -> Access:
        """The rules in force, together with those of the configuration (which are canonical)."""
        return Access(
            block=tuple(dict.fromkeys((*block, *self.block))), allow=tuple(dict.fromkeys((*allow, *self.allow)))
        )


def _ruling(fact: PeerBlocked | PeerAllowed, event: Event) -> Ruling:
    return Ruling(actor=fact.actor, reason=fact.reason, position=event.position)


def _blocked(state: AccessState, fact: PeerBlocked, event: Event) -> None:
    state.block[fact.party] = _ruling(fact, event)


def _unblocked(state: AccessState, fact: PeerUnblocked, _event: Event) -> None:
    state.block.pop(fact.party, None)


def _allowed(state: AccessState, fact: PeerAllowed, event: Event) -> None:
    state.allow[fact.party] = _ruling(fact, event)


def _disallowed(state: AccessState, fact: PeerDisallowed, _event: Event) -> None:
    state.allow.pop(fact.party, None)


_FOLDS: Mapping[type[Fact], Callable[[AccessState, Any, Event], None]] = {
    PeerBlocked: _blocked,
    PeerUnblocked: _unblocked,
    PeerAllowed: _allowed,
    PeerDisallowed: _disallowed,
}
