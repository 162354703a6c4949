"""What a relay gives to whom, and what a punched hole may lead to."""

import pytest

from mesh.p2p.host.circuit import split_circuit
from mesh.p2p.host.punch_targets import elsewhere, punchable
from mesh.p2p.host.relay_book import RelayBook, RelayLimits
from mesh.p2p.host.verdicts import PRIVATE, PUBLIC, UNKNOWN, Verdicts

LIMITS = RelayLimits(
    max_reservations=2,
    max_reservations_per_address=2,
    reservation_s=60.0,
    max_circuits=3,
    max_circuits_per_peer=2,
    circuit_s=10.0,
    circuit_bytes=1000,
)


def rule(refusal: object) -> str:
    return getattr(refusal, "rule", "")


def test_places_are_counted_in_all_and_by_address_and_renewed_without_another() -> None:
    book = RelayBook(LIMITS)
    assert book.reserve("a", "192.0.2.1", 0) is None
    assert book.reserve("b", "192.0.2.2", 0) is None
    assert rule(book.reserve("c", "192.0.2.3", 0)) == "relay_max_reservations"
    assert book.reserve("a", "192.0.2.1", 50) is None
    assert book.reserved("a", 100)
    assert not book.reserved("b", 61)
    assert book.reserve("c", "192.0.2.3", 61) is None, "what has run out makes room"


def test_one_address_has_few_places() -> None:
    book = RelayBook(
        LIMITS.__class__(**{name: getattr(LIMITS, name) for name in LIMITS.__struct_fields__} | {"max_reservations": 9})
    )
    assert [rule(book.reserve(peer, "2001:db8::1", 0)) for peer in "ab"] == ["", ""]
    assert rule(book.reserve("c", "2001:db8::2", 0)) == "relay_reservations_per_address"
    assert book.reserve("d", "2001:db9::2", 0) is None


def test_who_is_gone_has_no_place() -> None:
    book = RelayBook(LIMITS)
    book.reserve("a", "192.0.2.1", 0)
    book.forget("a")
    assert not book.reserved("a", 1)


def test_circuits_are_counted_in_all_and_at_both_ends() -> None:
    book = RelayBook(LIMITS)
    assert book.open("a", "x") is None
    assert book.open("b", "x") is None
    assert rule(book.open("c", "x")) == "relay_max_circuits_per_peer"
    assert book.open("c", "y") is None
    refusal = book.open("d", "z")
    assert (rule(refusal), getattr(refusal, "limit", ""), getattr(refusal, "value", "")) == (
        "relay_max_circuits",
        "3",
        "4",
    )
    book.close("a", "x")
    assert book.open("c", "x") is None


@pytest.mark.parametrize(
    "address",
    ["/ip4/192.0.2.1/tcp/1", "/p2p-circuit", "/ip4/1.2.3.4/tcp/1/p2p-circuit", "/p2p/R/p2p-circuit/p2p/Q/p2p-circuit"],
)
def test_a_circuit_address_names_one_relay(address: str) -> None:
    with pytest.raises(ValueError, match="relay"):
        split_circuit(address)


def test_a_circuit_address_is_the_relay_and_where_it_is() -> None:
    assert split_circuit("/ip4/192.0.2.1/tcp/1/p2p/R/p2p-circuit/p2p/Q") == ("R", "/ip4/192.0.2.1/tcp/1")
    assert split_circuit("/p2p/R/p2p-circuit") == ("R", "")


def test_nobody_has_us_knock_at_our_own_services() -> None:
    named = [
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/0.0.0.0/tcp/1",
        "/ip6/2001:db8::1/tcp/1",
        "/ip4/198.51.100.1/tcp/0",
        "/ip4/198.51.100.1/tcp/9/ws",
        "/dns4/localhost/tcp/22",
        "/ip4/1.2.3.4/tcp/1/p2p/R/p2p-circuit",
        "/ip4/198.51.100.1/tcp/9",
    ]
    assert [(target.host, target.port) for target in punchable(named, "192.168.1.2")] == [("198.51.100.1", 9)]
    many = [f"/ip4/198.51.100.{number}/tcp/9" for number in range(1, 30)]
    assert len(punchable(many, "192.168.1.2")) == 4


def test_addresses_of_a_relayed_peer_that_are_our_own_are_left_out() -> None:
    theirs = [
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/192.168.1.2/tcp/4701",
        "/ip4/192.168.1.3/tcp/4701/p2p/Q",
        "/p2p/R/p2p-circuit",
    ]
    own = ["/ip4/192.168.1.2/tcp/4701"]
    assert elsewhere(theirs, own, "/ip4/11.0.0.1/tcp/1") == ["/ip4/192.168.1.3/tcp/4701/p2p/Q"]
    assert "/ip4/127.0.0.1/tcp/1" in elsewhere(theirs, own, "/ip4/127.0.0.1/tcp/9")


def test_reachability_is_what_most_of_those_say_who_tried() -> None:
    verdicts = Verdicts()
    assert verdicts.state == UNKNOWN
    verdicts.hear("a", None)
    assert verdicts.decide("abc") is None, "one of three is not enough"
    verdicts.hear("b", None)
    verdicts.hear("c", "/ip4/192.0.2.1/tcp/1")
    assert verdicts.decide("abc") is None, "nor are two, while one has reached us"
    verdicts.hear("d", None)
    assert verdicts.decide("abcd") == PRIVATE
    assert verdicts.decide("abcd") is None, "it is news once"
    for peer in "abd":
        verdicts.hear(peer, "/ip4/192.0.2.1/tcp/1")
    assert verdicts.decide("abcd") == PUBLIC
    assert verdicts.addresses() == ("/ip4/192.0.2.1/tcp/1",)


def test_nobody_waits_for_those_who_would_not_try() -> None:
    verdicts = Verdicts()
    verdicts.hear("a", None)
    assert verdicts.decide("abc") is None
    verdicts.hear_nothing("b")
    assert verdicts.decide("abc") is None, "c may yet say something"
    verdicts.hear_nothing("c")
    assert verdicts.decide("abc") == PRIVATE
    verdicts.hear("b", "/ip4/192.0.2.1/tcp/1")
    assert verdicts.decide("abc") is None, "one says this, and one that"
    verdicts.hear_nothing("b")
    assert verdicts.addresses() == ("/ip4/192.0.2.1/tcp/1",), "what it said before stands"


def test_in_a_mesh_of_two_the_other_is_all_there_is() -> None:
    verdicts = Verdicts()
    verdicts.hear("a", None)
    assert verdicts.decide("a") == PRIVATE
    verdicts.forget("a")
    assert verdicts.decide("") == UNKNOWN
