"""Who this node knew before it stopped, as a pure fold of its own journal: whom to dial when it is back."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mesh.events.envelope import Event, Fact
from mesh.events.live_state import LiveStruct
from mesh.events.vocabulary import health, network
from mesh.p2p.addresses import merged
from mesh.p2p.hints import usable

# Entries that are kept; who never said hello leaves first, then who was not seen for longest.
MAX_KNOWN = 512
# Whoever was not seen for so long is not dialled again.
FORGET_AFTER_S = 14 * 86_400.0


class Known(msgspec.Struct):
    """A peer: where it was had, the proved address first; when it was last seen; whether it is of our mesh."""

    addresses: tuple[str, ...] = ()
    seen_at: float = 0.0
    name: str = ""
    member: bool = False
    via: str = ""


class PeerBook(LiveStruct, msgspec.Struct):
    """Every peer that the node ``local`` was in touch with, bounded."""

    local: str
    peers: dict[str, Known] = {}

    def apply(self, event: Event) -> None:
        """Fold one event; what other nodes' journals say is none of it."""
        fold = _FOLDS.get(type(event.fact))
        if fold is not None and event.origin == self.local:
            fold(self, event.fact, event)

    def to_dial(self, now: float, limit: int) -> list[tuple[str, tuple[str, ...]]]:
        """The peers of this mesh to dial after a start, those seen last first, with their addresses."""
        fit = [
            (known.seen_at, peer, known.addresses)
            for peer, known in self.peers.items()
            if known.member and known.addresses and now - known.seen_at <= FORGET_AFTER_S
        ]
        return [(peer, addresses) for _, peer, addresses in sorted(fit, reverse=True)[: max(0, limit)]]


def _known(book: PeerBook, peer: str) -> Known:
    known = book.peers.get(peer)
    if known is None:
        if len(book.peers) >= MAX_KNOWN:
            del book.peers[min(book.peers, key=lambda one: (book.peers[one].member, book.peers[one].seen_at))]
        known = book.peers[peer] = Known()
    return known


def _discovered(book: PeerBook, fact: network.PeerDiscovered, event: Event) -> None:
    known = _known(book, fact.peer)
    known.addresses = merged(fact.addresses, known.addresses)
    known.seen_at = known.seen_at or event.at


def _connected(book: PeerBook, fact: network.PeerConnected, event: Event) -> None:
    """An address that was dialled with success is proved; that of who dialled us is of no use, but says where it is."""
    known = _known(book, fact.peer)
    known.seen_at, known.via = event.at, fact.address
    if fact.direction == "outbound" and fact.address:
        known.addresses = merged(known.addresses, (fact.address,))


def _identified(book: PeerBook, fact: network.PeerIdentified, _event: Event) -> None:
    known = _known(book, fact.peer)
    known.addresses = merged(usable(fact.peer, fact.addresses, known.via), known.addresses)


def _greeted(book: PeerBook, fact: network.PeerGreeted, event: Event) -> None:
    known = _known(book, fact.peer)
    known.seen_at, known.name, known.member = event.at, fact.name, fact.role == "node"


def _seen(book: PeerBook, fact: Any, event: Event) -> None:  # noqa: ANN401 - every fact here names a peer
    if (known := book.peers.get(fact.peer)) is not None:
        known.seen_at = event.at


def _misbehaved(book: PeerBook, fact: network.PeerMisbehaved, _event: Event) -> None:
    """Nobody looks for such a peer; it counts again once it has said hello."""
    if (known := book.peers.get(fact.peer)) is not None:
        known.member = False


_FOLDS: Mapping[type[Fact], Callable[[PeerBook, Any, Event], None]] = {
    network.PeerDiscovered: _discovered,
    network.PeerConnected: _connected,
    network.PeerIdentified: _identified,
    network.PeerGreeted: _greeted,
    network.PeerRejoined: _seen,
    network.PeerLeft: _seen,
    health.PeerSampled: _seen,
    network.PeerMisbehaved: _misbehaved,
}
