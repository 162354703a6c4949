import pytest

from mesh.errors import ConfigError
from mesh.identity import Identity
from mesh.p2p.addresses import MAX_ADDRESSES, is_peer_id, merged, static_peers

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
