"""What happens to peers, put down in the journal: bounded texts, and the peer as the event's subject."""

from mesh.events.envelope import Fact
from mesh.events.journal import Journal
from mesh.events.vocabulary import network
from mesh.events.vocabulary.node import ProcessRestarted
from mesh.p2p.addresses import MAX_ADDRESS_CHARS, MAX_ADDRESSES
from mesh.p2p.liveness import Change, ConfirmedDown, Rejoined, Suspected
from mesh.p2p.messages import Hello
from mesh.p2p.overlay import (
    Connected,
    HolePunched,
    Identified,
    PathChanged,
    PortMapped,
    ReachabilityChanged,
    RelayLost,
    RelayReserved,
    Restarted,
)

_TEXT = 300
_NAME = 128
_PROTOCOLS = 64


class Chronicle:
    """Writes the network's facts. What peers say of themselves is cut to a size that an event may have."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def discovered(self, peer: str, addresses: tuple[str, ...], source: str, by: str = "") -> None:
        """Addresses became known."""
        self._emit(peer, network.PeerDiscovered(peer=peer, addresses=addresses, source=source, by=by))

    def dial_failed(self, peer: str, addresses: tuple[str, ...], error: str, attempt: int, retry_in_s: float) -> None:
        """No address led to a connection."""
        fact = network.PeerDialFailed(
            peer=peer, addresses=addresses, error=error[:_TEXT], attempt=attempt, retry_in_s=round(retry_in_s, 3)
        )
        self._emit(peer, fact)

    def connected(self, fact: Connected) -> None:
        """A connection is up."""
        self._emit(
            fact.peer,
            network.PeerConnected(
                peer=fact.peer,
                connection=fact.connection[:_NAME],
                address=fact.address[:MAX_ADDRESS_CHARS],
                transport=fact.transport,
                direction=fact.direction,
                security=fact.security,
                muxer=fact.muxer,
                setup_ms=fact.setup_ms,
            ),
        )

    def identified(self, fact: Identified) -> None:
        """The peer told what it is."""
        self._emit(
            fact.peer,
            network.PeerIdentified(
                peer=fact.peer,
                agent=fact.agent[:_NAME],
                protocols=tuple(protocol[:_NAME] for protocol in fact.protocols[:_PROTOCOLS]),
                addresses=tuple(address[:MAX_ADDRESS_CHARS] for address in fact.addresses[:MAX_ADDRESSES]),
            ),
        )

    def greeted(self, peer: str, hello: Hello, version: int) -> None:
        """The peer said hello; its name may hold anything, and is shown in terminals."""
        fact = network.PeerGreeted(
            peer=peer, name=_printable(hello.name), role=_printable(hello.role), protocol_version=version
        )
        self._emit(peer, fact)

    def left(self, peer: str, reason: str) -> None:
        """The peer said goodbye."""
        self._emit(peer, network.PeerLeft(peer=peer, reason=_printable(reason)[:_TEXT]))

    def disconnected(self, peer: str, connection: str, reason: str, lasted_s: float) -> None:
        """The last connection is gone."""
        fact = network.PeerDisconnected(
            peer=peer, connection=connection[:_NAME], reason=reason[:_TEXT], lasted_s=lasted_s
        )
        self._emit(peer, fact)

    def refused(self, peer: str, address: str, *, rule: str, limit: str, value: str) -> None:
        """A connection or stream was turned away."""
        fact = network.PeerRefused(
            peer=peer,
            address=address[:MAX_ADDRESS_CHARS],
            rule=rule[:_NAME],
            limit=limit[:_TEXT],
            value=value[:_TEXT],
        )
        self._emit(peer, fact)

    def misbehaved(self, peer: str, address: str, *, rule: str, detail: str) -> None:
        """The peer broke a protocol."""
        fact = network.PeerMisbehaved(
            peer=peer, address=address[:MAX_ADDRESS_CHARS], rule=rule[:_NAME], detail=detail[:_TEXT]
        )
        self._emit(peer, fact)

    def changed(self, peer: str, change: Change, *, reason: str) -> None:
        """The peer is thought of differently; ``reason`` goes with a death."""
        match change:
            case Suspected(phi, silent_s):
                self._emit(peer, network.PeerSuspected(peer=peer, phi=phi, silent_s=silent_s))
            case ConfirmedDown(silent_s):
                self._emit(peer, network.PeerConfirmedDown(peer=peer, reason=reason, silent_s=silent_s))
            case Rejoined(away_s):
                self._emit(peer, network.PeerRejoined(peer=peer, away_s=away_s))

    def path_changed(self, fact: PathChanged) -> None:
        """The peer is reached in another way."""
        self._emit(
            fact.peer,
            network.PeerPathChanged(
                peer=fact.peer,
                connection=fact.connection[:_NAME],
                path=fact.path,
                address=fact.address[:MAX_ADDRESS_CHARS],
                transport=fact.transport,
            ),
        )

    def nat(self, fact: HolePunched | RelayReserved | RelayLost | ReachabilityChanged | PortMapped) -> None:
        """Something about how this node gets through NATs."""
        match fact:
            case HolePunched():
                self._hole_punched(fact)
            case RelayReserved():
                self._relay_reserved(fact)
            case RelayLost():
                self._emit(fact.relay, network.PeerRelayLost(peer=fact.relay, reason=fact.reason[:_TEXT]))
            case ReachabilityChanged():
                self._reachability_changed(fact)
            case PortMapped():
                self._port_mapped(fact)

    def _hole_punched(self, fact: HolePunched) -> None:
        self._emit(
            fact.peer,
            network.PeerHolePunched(
                peer=fact.peer,
                address=fact.address[:MAX_ADDRESS_CHARS],
                attempts=fact.attempts,
                took_ms=fact.took_ms,
                direct=fact.direct,
                error=fact.error[:_TEXT],
            ),
        )

    def _relay_reserved(self, fact: RelayReserved) -> None:
        self._emit(
            fact.relay,
            network.PeerRelayReserved(
                peer=fact.relay,
                addresses=tuple(address[:MAX_ADDRESS_CHARS] for address in fact.addresses[:MAX_ADDRESSES]),
                holds_s=fact.holds_s,
                circuit_s=fact.circuit_s,
                circuit_bytes=fact.circuit_bytes,
            ),
        )

    def _reachability_changed(self, fact: ReachabilityChanged) -> None:
        self._emit(
            self._journal.origin,
            network.NodeReachabilityChanged(
                reachability=fact.reachability,
                addresses=tuple(address[:MAX_ADDRESS_CHARS] for address in fact.addresses[:MAX_ADDRESSES]),
                askable=fact.askable,
            ),
        )

    def _port_mapped(self, fact: PortMapped) -> None:
        mapped = network.NodePortMapped(address=fact.address[:MAX_ADDRESS_CHARS], gateway=fact.gateway[:_NAME])
        self._emit(self._journal.origin, mapped)

    def restarted(self, fact: Restarted) -> None:
        """The overlay came back."""
        restart = ProcessRestarted(
            process="overlay", reason=fact.reason[:_TEXT], restarts=fact.restarts, down_ms=fact.down_ms
        )
        self._emit(self._journal.origin, restart)

    def _emit(self, subject: str, fact: Fact) -> None:
        self._journal.emit(fact, subject=subject)


def _printable(text: str) -> str:
    """Without control characters, which would move a terminal's cursor, or worse."""
    return "".join(character if character.isprintable() else "�" for character in text)
