"""Which of a node's sockets a dial goes out from."""

import socket
from types import SimpleNamespace

import pytest

from mesh.p2p.addresses import QUIC, udp_target_of
from mesh.p2p.host.quic.transport import DoorQuic

LISTEN = [
    "/ip4/127.0.0.1/udp/1/quic-v1",
    "/ip4/192.0.2.7/udp/2/quic-v1",
    "/ip4/0.0.0.0/udp/3/quic-v1",
    "/ip6/::1/udp/4/quic-v1",
    "/ip6/::/udp/5/quic-v1",
]


def door(*addresses: str) -> DoorQuic:
    """One that listens there, as far as it is asked where."""
    families = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
    made = DoorQuic.__new__(DoorQuic)
    made._bound = [
        SimpleNamespace(address=one, transport=QUIC, raw=SimpleNamespace(family=families[one.split("/")[1]]))
        for one in addresses
    ]  # type: ignore[misc]
    return made


@pytest.mark.parametrize(
    ("address", "ports"),
    [
        ("/ip4/198.51.100.1/udp/9/quic-v1", {3}),
        ("/ip4/127.0.0.1/udp/9/quic-v1", {1}),
        ("/ip6/2001:db8::1/udp/9/quic-v1", {5}),
        ("/ip6/::1/udp/9/quic-v1", {4}),
        ("/dns4/a.example/udp/9/quic-v1", {3}),
        ("/dns6/a.example/udp/9/quic-v1", {5}),
        ("/dns/a.example/udp/9/quic-v1", {3, 5}),
    ],
)
def test_a_dial_goes_out_from_the_socket_that_fits(address: str, ports: set[int]) -> None:
    target = udp_target_of(address)
    assert target is not None
    chosen = door(*LISTEN)._sockets(target)
    assert {int(one.address.split("/")[4]) for one in chosen} == ports


def test_who_has_no_socket_of_a_family_does_not_dial_it() -> None:
    target = udp_target_of("/ip6/2001:db8::1/udp/9/quic-v1")
    assert target is not None
    assert door(*LISTEN[:3])._sockets(target) == []
    assert [one.address for one in door(*LISTEN[:2])._sockets(udp_target_of("/ip4/198.51.100.1/udp/9/quic-v1"))] == [
        LISTEN[1]
    ]
