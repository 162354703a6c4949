import pytest

from mesh.p2p.access import Access, Gate
from mesh.p2p.host.admission import Admission, site_of
from mesh.p2p.host.limits import Limits


def limits(**overrides: object) -> Limits:
    values: dict[str, object] = {
        "max_connections": 10,
        "max_inbound": 5,
        "max_streams_per_peer": 16,
        "handshake_s": 10.0,
        "silent_s": 15.0,
        "inbound_per_address_per_s": 1.0,
        "inbound_burst": 100,
        "max_handshakes": 4,
        "max_handshakes_per_address": 2,
    }
    return Limits(**(values | overrides))  # type: ignore[arg-type]


def arrive(admission: Admission, ip: str, *, now: float = 0.0, outbound: int = 0) -> str:
    refusal = admission.arrive(ip, now, outbound=outbound)
    return refusal.rule if refusal is not None else ""


def test_inbound_connections_are_limited_and_their_places_given_back() -> None:
    admission = Admission(limits(max_inbound=2))
    for _ in range(2):
        assert arrive(admission, "192.0.2.1") == ""
        admission.settled("192.0.2.1")
    assert arrive(admission, "192.0.2.2") == "max_inbound"
    admission.leave("192.0.2.1")
    assert arrive(admission, "192.0.2.2") == ""


def test_a_place_is_given_back_however_often() -> None:
    admission = Admission(limits(inbound_per_address_per_s=1e6))
    for turn in range(1000):
        assert arrive(admission, "192.0.2.1", now=float(turn)) == ""
        admission.settled("192.0.2.1")
        admission.leave("192.0.2.1")
    assert admission.inbound == 0


def test_what_we_dialled_counts_towards_the_total() -> None:
    admission = Admission(limits())
    assert arrive(admission, "192.0.2.1", outbound=10) == "max_connections"
    assert arrive(admission, "192.0.2.1", outbound=9) == ""


def test_who_does_not_finish_the_handshake_does_not_keep_others_out() -> None:
    admission = Admission(limits())
    assert [arrive(admission, "192.0.2.1") for _ in range(3)] == ["", "", "handshakes_per_address"]
    assert arrive(admission, "192.0.2.2") == ""
    admission.settled("192.0.2.1")
    assert arrive(admission, "192.0.2.1") == ""


def test_handshakes_are_limited_in_all() -> None:
    admission = Admission(limits())
    assert [arrive(admission, f"192.0.2.{host}") for host in range(5)] == ["", "", "", "", "handshakes"]


def test_an_address_connects_at_a_limited_rate() -> None:
    admission = Admission(limits(inbound_burst=2))

    def come_and_go(now: float) -> str:
        rule = arrive(admission, "192.0.2.1", now=now)
        if not rule:
            admission.settled("192.0.2.1")
            admission.leave("192.0.2.1")
        return rule

    assert [come_and_go(0.0) for _ in range(3)] == ["", "", "inbound_per_address_per_s"]
    assert arrive(admission, "192.0.2.2") == ""
    assert come_and_go(0.5) == "inbound_per_address_per_s"
    assert come_and_go(1.0) == ""


def test_a_refusal_says_limit_and_value() -> None:
    admission = Admission(limits(max_inbound=1))
    admission.arrive("192.0.2.1", 0.0, outbound=0)
    refusal = admission.arrive("192.0.2.1", 0.0, outbound=0)
    assert refusal is not None
    assert (refusal.limit, refusal.value) == ("1", "2")


def test_many_addresses_do_not_fill_the_memory() -> None:
    admission = Admission(limits(max_inbound=10**6, max_connections=10**6, max_handshakes=10**6))
    for number in range(20_000):
        ip = f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}"
        arrive(admission, ip, now=number * 0.0001)
    assert len(admission._buckets) <= 4097
    assert arrive(admission, "192.0.2.1", now=1000.0) == ""


@pytest.mark.parametrize(
    ("ip", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_site_is_one_party(ip: str, site: str) -> None:
    assert site_of(ip) == site


def test_a_subnet_has_a_share_of_its_own() -> None:
    admission = Admission(limits(max_inbound_per_subnet=2, max_handshakes=100, max_inbound=100, max_connections=100))
    assert [arrive(admission, f"192.0.2.{host}") for host in range(3)] == ["", "", "max_inbound_per_subnet"]
    assert [arrive(admission, f"2001:db8::{host}") for host in (1, 2, 3)] == ["", "", "max_inbound_per_subnet"]
    assert arrive(admission, "192.0.3.1") == arrive(admission, "2001:db8:0:1::1") == ""
    admission.leave("192.0.2.1")
    assert arrive(admission, "192.0.2.9") == ""


def test_a_subnet_is_as_wide_as_is_said() -> None:
    admission = Admission(limits(max_inbound_per_subnet=1, subnet_ipv4_bits=16))
    assert arrive(admission, "192.0.2.1") == ""
    refusal = admission.arrive("192.0.99.1", 0.0, outbound=0)
    assert refusal is not None
    assert (refusal.limit, refusal.value) == ("1 of one subnet", "2 of 192.0.0.0/16")


def test_ones_own_networks_are_not_counted_by_subnet() -> None:
    admission = Admission(limits(max_inbound_per_subnet=1, own_networks=("10.0.0.0/8", "fe80::/10")))
    assert [arrive(admission, f"10.0.0.{host}") for host in range(3)] == ["", "", ""]


def test_many_subnets_do_not_fill_the_memory() -> None:
    admission = Admission(limits())
    for number in range(5000):
        ip = f"10.{number >> 8}.{number & 255}.1"
        assert arrive(admission, ip, now=number * 10.0) == ""
        admission.settled(ip)
        admission.leave(ip)
    assert not admission._subnets


def test_who_is_blocked_uses_up_nothing() -> None:
    admission = Admission(limits(inbound_burst=1))
    admission.gate = Gate(Access(block=("192.0.2.0/24",)))
    assert {arrive(admission, "192.0.2.1") for _ in range(20)} == {"blocked_address"}
    admission.gate = Gate(Access())
    assert (admission.inbound, arrive(admission, "192.0.2.1")) == (0, "")
