"""Whatever strangers send before the node looks at it gives a value or a known refusal."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.identity import Identity
from mesh.p2p.host import wire
from mesh.p2p.host.identify import MAX_ADDRESSES, MAX_AGENT_CHARACTERS, MAX_PROTOCOLS, parse
from mesh.p2p.mdns_records import Announcement, decode_text, encode_text
from mesh.p2p.overlay import Identified, Misbehaved, Refused

PEER = Identity(bytes(32)).peer_id
text = st.text(max_size=200)
ports = st.lists(st.integers(1, 65535), min_size=1, max_size=16, unique=True)
names = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)


@given(st.binary(max_size=2000))
def test_an_mdns_record_is_an_announcement_or_nothing(payload: bytes) -> None:
    announcement = decode_text(payload)
    assert announcement is None or isinstance(announcement, Announcement)


@given(
    st.lists(st.integers(1, 65535), min_size=1, max_size=16, unique=True),
    st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True),
)
def test_every_announcement_is_understood(ports: list[int], mesh: str) -> None:
    addresses = tuple(f"/ip4/192.0.2.1/tcp/{port}/p2p/{PEER}" for port in ports)
    announcement = decode_text(encode_text(mesh, addresses))
    assert announcement == Announcement(PEER, mesh, addresses)


@given(st.binary(max_size=2000))
def test_an_identify_message_is_one_or_a_value_error(payload: bytes) -> None:
    try:
        identified = parse(PEER, payload)
    except ValueError:
        return
    assert isinstance(identified, Identified)
    assert len(identified.addresses) <= MAX_ADDRESSES
    assert len(identified.protocols) <= MAX_PROTOCOLS
    assert len(identified.agent) <= MAX_AGENT_CHARACTERS


@given(st.binary(max_size=500))
def test_a_line_on_the_link_is_a_message_or_a_value_error(payload: bytes) -> None:
    for decode in (wire.decode_hello, wire.decode_command, wire.decode_notice):
        try:
            decode(payload)
        except ValueError:
            continue


@given(st.one_of(st.builds(Refused, text, text, text, text, text), st.builds(Misbehaved, text, text, text, text)))
def test_facts_cross_the_link_unchanged(fact: Refused | Misbehaved) -> None:
    line = wire.line(wire.happened(fact))
    assert line.count(b"\n") == 1
    notice = wire.decode_notice(line)
    assert isinstance(notice, wire.Happened)
    assert wire.fact_of(notice) == fact


@given(st.binary(max_size=3000))
def test_gossip_crosses_the_link_unchanged(data: bytes) -> None:
    notice = wire.decode_notice(wire.line(wire.Gossip("t", PEER, data)))
    assert isinstance(notice, wire.Gossip)
    assert notice.data == data
