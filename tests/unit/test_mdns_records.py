from mesh.identity import Identity
from mesh.p2p.mdns_records import MAX_ADDRESSES, Announcement, decode_text, encode_text

PEER = Identity(bytes(32)).peer_id
OTHER = Identity(bytes([1] * 32)).peer_id
ADDRESS = f"/ip4/192.0.2.7/tcp/4701/p2p/{PEER}"


def test_what_is_announced_is_understood() -> None:
    assert decode_text(encode_text("home", [ADDRESS])) == Announcement(PEER, "home", (ADDRESS,))


def test_the_record_is_libp2ps() -> None:
    text = encode_text("home", [ADDRESS])
    assert text.startswith(bytes([len(ADDRESS) + 8]) + b"dnsaddr=" + ADDRESS.encode())


def test_a_libp2p_node_that_is_not_ours_is_in_no_mesh() -> None:
    string = b"dnsaddr=" + ADDRESS.encode()
    announcement = decode_text(bytes([len(string)]) + string)
    assert announcement is not None
    assert announcement.mesh == ""


def test_addresses_of_two_peers_in_one_record_are_not_believed() -> None:
    assert decode_text(encode_text("home", [ADDRESS, f"/ip4/192.0.2.8/tcp/1/p2p/{OTHER}"])) is None


def test_what_names_no_peer_announces_nothing() -> None:
    assert decode_text(b"") is None
    assert decode_text(encode_text("home", [])) is None
    assert decode_text(encode_text("home", ["/ip4/192.0.2.7/tcp/4701"])) is None
    assert decode_text(encode_text("home", ["/ip4/192.0.2.7/tcp/4701/p2p/nobody"])) is None


def test_too_long_and_too_many_addresses_are_left_out() -> None:
    many = [f"/ip4/192.0.2.7/tcp/{port}/p2p/{PEER}" for port in range(1, 30)]
    announcement = decode_text(encode_text("home", [f"/dns/{'x' * 300}/tcp/1/p2p/{PEER}", *many]))
    assert announcement is not None
    assert announcement.addresses == tuple(many[:MAX_ADDRESSES])


def test_a_record_that_ends_early_is_read_as_far_as_it_goes() -> None:
    assert decode_text(encode_text("home", [ADDRESS])[:-3]) is not None
    assert decode_text(encode_text("home", [ADDRESS])[:20]) is None
