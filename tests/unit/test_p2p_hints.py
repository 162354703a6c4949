"""What others say of third peers: as far as they could see it themselves, and not too much of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.p2p.hints import INTERNET, MACHINE, MAX_HINT_ADDRESSES, NETWORK, NOWHERE, HintBudget, reach_of, usable
from tests.kit.asking import identity

PEER, OTHER = identity(1).peer_id, identity(2).peer_id
HERE, LAN, FAR = "/ip4/127.0.0.1/tcp/9", "/ip4/192.168.1.7/tcp/9", "/ip4/8.8.8.8/tcp/9"


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("/ip4/127.0.0.1/tcp/1", MACHINE),
        ("/ip6/::1/tcp/1", MACHINE),
        ("/ip6/::ffff:127.0.0.1/tcp/1", MACHINE),
        ("/ip6/64:ff9b::7f00:1/tcp/1", MACHINE),
        ("/ip6/2002:7f00:1::/tcp/1", MACHINE),
        ("/ip4/10.0.0.1/tcp/1", NETWORK),
        ("/ip4/169.254.169.254/tcp/80", NETWORK),
        ("/ip4/100.64.0.1/tcp/1", NETWORK),
        ("/ip6/fe80::1/tcp/1", NETWORK),
        ("/ip6/fd00::1/tcp/1", NETWORK),
        ("/ip6/2002:c0a8:101::/tcp/1", NETWORK),
        ("/ip4/8.8.8.8/tcp/1", INTERNET),
        ("/ip6/2606:4700::1111/tcp/1", INTERNET),
        ("/ip4/0.0.0.0/tcp/1", NOWHERE),
        ("/ip4/224.0.0.1/tcp/1", NOWHERE),
        ("/ip4/255.255.255.255/tcp/1", NOWHERE),
        ("/dns/localhost/tcp/1", NOWHERE),
        ("/dns4/metadata.example/tcp/80", NOWHERE),
        ("/ip4/127.1/tcp/1", NOWHERE),
        ("/ip4/8.8.8.8", NOWHERE),
        ("ip4/8.8.8.8/tcp/1", NOWHERE),
        ("", NOWHERE),
    ],
)
def test_how_far_an_address_reaches(address: str, reach: int) -> None:
    assert reach_of(address) == reach


@pytest.mark.parametrize(
    ("via", "kept"), [(HERE, [HERE, LAN, FAR]), (LAN, [LAN, FAR]), (FAR, [FAR]), ("", []), ("/dns/x/tcp/1", [])]
)
def test_nobody_can_make_us_dial_nearer_than_where_it_is_itself(via: str, kept: list[str]) -> None:
    assert usable(PEER, [HERE, LAN, FAR], via) == tuple(f"{address}/p2p/{PEER}" for address in kept)


def test_who_comes_through_a_relay_counts_as_far_away() -> None:
    assert usable(PEER, [HERE, LAN], f"{LAN}/p2p/{OTHER}/p2p-circuit/p2p/{PEER}") == ()


def test_the_address_of_another_peer_is_none_of_this_one() -> None:
    assert usable(PEER, [f"{FAR}/p2p/{OTHER}"], FAR) == ()
    circuit = f"{FAR}/p2p/{OTHER}/p2p-circuit"
    assert usable(PEER, [circuit, f"{circuit}/p2p/{PEER}"], FAR) == (f"{circuit}/p2p/{PEER}",)


@given(st.lists(st.text(max_size=300) | st.from_regex(r"/ip4/[0-9.]{7,15}/tcp/[0-9]{1,5}.{0,20}", fullmatch=True)))
def test_whatever_is_told_gives_few_addresses_that_reach_far_enough(addresses: list[str]) -> None:
    found = usable(PEER, addresses, LAN)
    assert len(found) <= MAX_HINT_ADDRESSES
    assert all(reach_of(address) >= NETWORK and address.endswith(f"/p2p/{PEER}") for address in found)


def test_each_source_may_name_some_at_once_and_then_few() -> None:
    budget = HintBudget(burst=3, every_s=10)
    assert [budget.take("a", 0) for _ in range(4)] == [True, True, True, False]
    assert budget.take("b", 0)
    assert [budget.take("a", at) for at in (9, 11, 12)] == [False, True, False]


def test_many_sources_take_no_more_room_than_some() -> None:
    budget = HintBudget(burst=1, every_s=1e9)
    assert all(budget.take(f"source {number}", number) for number in range(5000))
    assert len(budget._left) <= 4096
