import pytest

from mesh.errors import ConfigError
from mesh.identity import Identity
from mesh.p2p.addresses import (
    MAX_ADDRESSES,
    Target,
    check_listen,
    is_peer_id,
    merged,
    static_peers,
    target_of,
    udp_target_of,
)

PEER = Identity(bytes(32)).peer_id
OWN = Identity(bytes([1] * 32)).peer_id
RSA = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


def test_static_peers_by_peer_id_without_ourselves():
    multiaddrs = [
        f"/ip4/192.0.2.7/tcp/4701/p2p/{PEER}",
        f"/dns/b.example/tcp/1/p2p/{PEER}",
        f"/ip4/1.2.3.4/tcp/1/p2p/{OWN}",
    ]
    assert static_peers(multiaddrs, OWN) == {PEER: (multiaddrs[1], multiaddrs[0])}


@pytest.mark.parametrize(
    "bad",
    ["", "host:4701", "/ip4/192.0.2.7/tcp/4701", "/ip4/192.0.2.7/tcp/4701/p2p/", f"ip4/1.2.3.4/tcp/1/p2p/{PEER}",
     f"/p2p/{PEER}", f"//tcp/1/p2p/{PEER}", f"/ip4/192.0.2.7/tcp/4701/p2p/{PEER[:-1]}",
     f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}/x",
     "/ip4/1.2.3.4/tcp/1/p2p/" + "1" * 50, f"/dns/{'x' * 300}/tcp/1/p2p/{PEER}"],
)  # fmt: skip
def test_a_malformed_static_peer_is_a_config_error_that_names_it(bad):
    with pytest.raises(ConfigError) as caught:
        static_peers([f"/ip4/192.0.2.7/tcp/4701/p2p/{PEER}", bad], OWN)
    assert repr(bad) in str(caught.value)
    assert caught.value.remedy


def test_peer_ids():
    assert is_peer_id(PEER)
    assert is_peer_id(RSA)
    assert not is_peer_id(PEER + "1")
    assert not is_peer_id("0" * 52)
    assert not is_peer_id("é" * 52)


def test_merged_addresses_are_bounded_and_newest_first():
    assert merged(("/a", "/b"), ["/c", "/a", ""]) == ("/c", "/a", "/b")
    assert len(merged((), [f"/{n}" for n in range(100)])) == MAX_ADDRESSES
    assert merged((), ["/" + "x" * 300]) == ()


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("/ip4/192.0.2.7/tcp/4701", Target("ip4", "192.0.2.7", 4701, "tcp")),
        (f"/ip6/::1/tcp/0/p2p/{PEER}", Target("ip6", "::1", 0, "tcp")),
        ("/dns4/a.example/tcp/80/ws", Target("dns4", "a.example", 80, "ws")),
        ("/dns/a.example/tcp/443/wss", Target("dns", "a.example", 443, "wss")),
        ("/ip4/192.0.2.7/tcp/443/tls/ws", Target("ip4", "192.0.2.7", 443, "wss")),
        ("/ip4/192.0.2.7/tcp/443/tls/sni/a.example/ws", Target("ip4", "192.0.2.7", 443, "wss", "a.example")),
    ],
)
def test_an_address_of_tcp_or_websocket_is_taken_apart(address: str, target: Target):
    assert target_of(address) == target


@pytest.mark.parametrize(
    "address",
    ["", "/", "ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4", "/ip4/1.2.3.4/tcp/", "/ip4/1.2.3.4/tcp/x", "/ip4/1.2.3.4/tcp/65536",
     "/ip4/1.2.3.4/tcp/-1", "/ip4/1.2.3.4/tcp/٣", "/ip4/1.2.3.4/tcp/" + "9" * 5000, "/ip4//tcp/1",
     "/ip4/1.2.3.4/tcp/1/ws/ws", "/ip4/1.2.3.4/tcp/1/tls", "/ip4/1.2.3.4/tcp/1/tls/sni//ws",
     "/ip4/1.2.3.4/udp/1/quic-v1", "/unix/tmp/x"],
)  # fmt: skip
def test_what_is_neither_is_no_target(address: str):
    assert target_of(address) is None


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("/ip4/192.0.2.7/udp/4701/quic-v1", Target("ip4", "192.0.2.7", 4701, "quic-v1")),
        (f"/dns6/a.example/udp/1/quic-v1/p2p/{PEER}", Target("dns6", "a.example", 1, "quic-v1")),
        ("/ip4/192.0.2.7/tcp/4701", None),
        ("/ip4/192.0.2.7/tcp/4701/quic-v1", None),
        ("/ip4/192.0.2.7/udp/4701", None),
        ("/ip4/192.0.2.7/udp/4701/quic", None),
        ("/ip4/192.0.2.7/udp/65536/quic-v1", None),
        ("/ip4/192.0.2.7/udp/4701/quic-v1/webtransport", None),
    ],
)
def test_an_address_of_quic_is_taken_apart(address: str, target: Target | None):
    assert udp_target_of(address) == target


def test_quic_may_share_the_number_of_a_port_of_tcp():
    check_listen(["/ip4/0.0.0.0/tcp/4701", "/ip4/0.0.0.0/udp/4701/quic-v1"], private=False, certificate=False)


def test_a_network_key_is_not_for_quic():
    with pytest.raises(ConfigError, match="a network key protects TCP and WebSocket alone"):
        check_listen(["/ip4/0.0.0.0/udp/4701/quic-v1"], private=True, certificate=False)


def test_transports_beside_each_other_may_be_listened_on():
    check_listen(
        [
            "/ip4/0.0.0.0/tcp/0",
            "/ip4/0.0.0.0/tcp/0/ws",
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/::/tcp/1",
            "/ip4/0.0.0.0/tcp/2/tls/ws",
        ],
        private=True,
        certificate=True,
    )


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        (["/ip4/0.0.0.0/udp/1/quic"], "QUIC of before RFC 9000"),
        (["/ip4/0.0.0.0/udp/1/quic-v1", "/ip4/0.0.0.0/udp/01/quic-v1"], "on one port"),
        (["/ip4/0.0.0.0/udp/1/quic-v1/webtransport"], "WebTransport"),
        (["/ip4/0.0.0.0/udp/1/webrtc-direct", "/ip4/0.0.0.0/udp/1/webrtc-direct/certhash/uEiA"], "on one port"),
        (["/ip4/0.0.0.0/tcp/1/tls/ws"], "certificate"),
        (["/ip4/0.0.0.0/tcp/1", "/ip4/0.0.0.0/tcp/1/ws"], "on one port"),
    ],
)
def test_what_may_not_be_listened_on_says_why_and_what_to_do(listen: list[str], says: str):
    with pytest.raises(ConfigError, match=says) as raised:
        check_listen(listen, private=False, certificate=False)
    assert listen[-1] in raised.value.what
    assert raised.value.remedy
