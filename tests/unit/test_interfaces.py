from mesh.p2p.interfaces import dialable

LAN = ["127.0.0.1", "192.0.2.7", "::1", "fd00::7", "fe80::1"]


def test_every_interface_is_spelt_out_without_loopback() -> None:
    assert dialable(["/ip4/0.0.0.0/tcp/4701"], LAN) == ("/ip4/192.0.2.7/tcp/4701",)
    assert dialable(["/ip6/::/tcp/4701"], LAN) == ("/ip6/fd00::7/tcp/4701",)


def test_loopback_is_named_where_there_is_nothing_else() -> None:
    assert dialable(["/ip4/0.0.0.0/tcp/4701"], ["127.0.0.1"]) == ("/ip4/127.0.0.1/tcp/4701",)


def test_an_address_that_was_chosen_stays() -> None:
    assert dialable(["/ip4/127.0.0.1/tcp/1", "/ip4/198.51.100.1/tcp/2"], LAN) == (
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/198.51.100.1/tcp/2",
    )
