"""Whom a node that comes back dials: given these events, then these peers."""

from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary.network import (
    PeerConnected,
    PeerDiscovered,
    PeerGreeted,
    PeerIdentified,
    PeerLeft,
    PeerMisbehaved,
)
from mesh.p2p.peer_book import FORGET_AFTER_S, MAX_KNOWN, PeerBook
from tests.kit.tables import NODE, event

LAN, LOOPBACK = "/ip4/192.168.1.7/tcp/4701", "/ip4/127.0.0.1/tcp/4701"


def connected(peer: str = "p", direction: str = "outbound", address: str = LAN) -> PeerConnected:
    return PeerConnected(
        peer=peer,
        connection="c",
        address=f"{address}/p2p/{peer}",
        transport="tcp",
        direction=direction,
        security="/noise",
        muxer="/yamux/1.0.0",
        setup_ms=8.0,
    )


def greeted(peer: str = "p", role: str = "node") -> PeerGreeted:
    return PeerGreeted(peer=peer, name="attic", role=role, protocol_version=1)


def book(*facts: Fact | Event) -> PeerBook:
    made = PeerBook(NODE)
    for number, fact in enumerate(facts):
        made.apply(fact if isinstance(fact, Event) else event(fact, number + 1))
    return made


def dialled(made: PeerBook, *, later_s: float = 0.0, limit: int = 64) -> dict[str, tuple[str, ...]]:
    now = max((known.seen_at for known in made.peers.values()), default=0.0)
    return dict(made.to_dial(now + later_s, limit))


def test_who_said_hello_is_dialled_where_it_was_had() -> None:
    assert dialled(book(connected(), greeted())) == {"p": (f"{LAN}/p2p/p",)}


def test_who_never_said_hello_or_is_no_node_is_not() -> None:
    assert not dialled(book(connected(), PeerDiscovered(peer="p", addresses=(LAN,), source="mdns")))
    assert not dialled(book(connected(), greeted(role="client")))


def test_who_dialled_us_is_dialled_where_it_says_it_listens_as_far_as_that_can_be() -> None:
    identified = PeerIdentified(peer="p", agent="", protocols=(), addresses=(LAN, LOOPBACK))
    made = book(connected(direction="inbound", address="/ip4/192.168.1.7/tcp/50123"), identified, greeted())
    assert dialled(made) == {"p": (f"{LAN}/p2p/p",)}


def test_the_proved_address_comes_first() -> None:
    found = PeerDiscovered(peer="p", addresses=("/ip4/192.168.1.9/tcp/1",), source="mdns")
    assert dialled(book(found, connected(), greeted()))["p"][0] == f"{LAN}/p2p/p"


def test_who_was_not_seen_for_long_is_forgotten_and_a_goodbye_is_a_sight() -> None:
    assert dialled(book(connected(), greeted()), later_s=FORGET_AFTER_S - 1)
    assert not dialled(book(connected(), greeted()), later_s=FORGET_AFTER_S + 1)
    left = book(connected(), greeted(), PeerLeft(peer="p", reason=""))
    assert left.peers["p"].seen_at > book(connected(), greeted()).peers["p"].seen_at


def test_who_misbehaved_is_not_looked_for_until_it_has_said_hello_again() -> None:
    bad = PeerMisbehaved(peer="p", address="", rule="hello", detail="")
    assert not dialled(book(connected(), greeted(), bad))
    assert dialled(book(connected(), greeted(), bad, greeted()))


def test_what_another_node_saw_is_not_ours() -> None:
    assert not book(event(connected(), 1, origin="other"), event(greeted(), 2, origin="other")).peers


def test_strangers_cannot_push_out_members_and_the_latest_are_dialled_first() -> None:
    members = [fact for number in range(3) for fact in (connected(f"m{number}"), greeted(f"m{number}"))]
    made = book(*members, *(connected(f"stranger {number}") for number in range(2 * MAX_KNOWN)))
    assert len(made.peers) == MAX_KNOWN
    assert list(dialled(made)) == ["m2", "m1", "m0"]
    assert list(dialled(made, limit=1)) == ["m2"]
    assert not dialled(made, limit=0)
