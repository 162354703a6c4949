"""What WebRTC-direct is made of, without a network: STUN, certificates, the cookie of DTLS, frames and Noise."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

pytest.importorskip("google_crc32c", reason="the [webrtc] extra is not installed")

from mesh.p2p.host.webrtc import stun
from mesh.p2p.host.webrtc.certificates import certhash, ephemeral, fingerprint_in, of_seed
from mesh.p2p.host.webrtc.dtls import MTU, Dtls, DtlsClosed, DtlsFault, Greeter
from mesh.p2p.host.webrtc.framing import MAX_PAYLOAD_BYTES, Deframer, Flag, FrameFault, frame
from mesh.p2p.host.webrtc.noise import Handshake, NoiseFault

UFRAG = b"libp2p+webrtc+v1/" + b"x" * 32
HERE = ("192.0.2.7", 4701)


def test_a_request_is_answered_from_what_it_says_with_fewer_bytes() -> None:
    transaction = os.urandom(12)
    asked = stun.request(UFRAG, transaction, 7)
    understood = stun.request_in(asked)
    assert understood == stun.Request(transaction, UFRAG)
    for host in ("192.0.2.7", "2001:db8::7"):
        answered = stun.answer(understood, host, 4701)
        assert stun.is_answer(answered, transaction, UFRAG)
        assert len(answered) < len(asked)
    assert not stun.is_answer(answered, os.urandom(12), UFRAG)
    assert not stun.is_answer(answered, transaction, UFRAG + b"y")


def test_a_request_of_another_protocol_or_with_a_wrong_password_is_none() -> None:
    assert stun.request_in(stun.request(b"abcd", os.urandom(12), 7)) is None
    asked = bytearray(stun.request(UFRAG, os.urandom(12), 7))
    asked[-20] ^= 1
    assert stun.request_in(bytes(asked)) is None


def test_an_address_and_port_are_told_as_rfc_5769_does() -> None:
    """Section 2.2: the XOR-MAPPED-ADDRESS of 192.0.2.1, port 32853."""
    request = stun.Request(bytes.fromhex("b7e7a701bc34d686fa87dfae"), UFRAG)
    assert bytes.fromhex("002000080001a147e112a643") in stun.answer(request, "192.0.2.1", 32853)


def test_the_certificate_of_a_node_is_the_same_after_every_start() -> None:
    """Peers remember it in addresses: what this test pins, no release may change."""
    assert certhash(of_seed(bytes(32)).fingerprint) == "uEiBodUG9UXt8158e4gKnwsNcX3rxNsXFQfj6gtRixyktlg"
    assert of_seed(bytes([1] * 32)).fingerprint != of_seed(bytes(32)).fingerprint
    assert ephemeral().fingerprint != ephemeral().fingerprint


@pytest.mark.parametrize("bad", ["", "z" * 47, "u", "uEiB", "u" + "A" * 46, "uñ"])
def test_a_digest_that_is_none_is_a_value_error(bad: str) -> None:
    with pytest.raises(ValueError, match=r"certhash|padded|ASCII|base64"):
        fingerprint_in(bad)


def met() -> tuple[Dtls, Dtls, Greeter, list[bytes]]:
    """Two ends of a connection of DTLS, and the hellos that were said."""
    greeter, dialler = Greeter(of_seed(bytes(32))), Dtls.dialling(ephemeral())
    dialler.proceed()
    (first,) = dialler.take()
    (cookie,), none = greeter.hear(first, HERE)
    assert none is None
    assert len(cookie) < len(first)
    dialler.receive(cookie)
    (second,) = dialler.take()
    _, listener = greeter.hear(second, HERE)
    assert listener is not None
    listener.proceed()
    for _ in range(3):
        for datagram in listener.take():
            assert len(datagram) <= MTU
            dialler.receive(datagram)
        for datagram in dialler.take():
            listener.receive(datagram)
    return dialler, listener, greeter, [first, second]


def test_a_connection_begins_with_the_cookie_of_its_address_alone() -> None:
    dialler, listener, greeter, (first, second) = met()
    assert dialler.is_up
    assert listener.is_up
    assert dialler.peer_fingerprint == of_seed(bytes(32)).fingerprint
    answers, other = greeter.hear(second, ("192.0.2.8", 4701))
    assert other is None
    assert len(b"".join(answers)) < len(second)
    assert greeter.hear(first, HERE)[1] is None


def test_any_number_of_packets_goes_out_whole() -> None:
    dialler, listener, _, _ = met()
    for _ in range(100):
        dialler.send(bytes(dialler.packet_bytes))
    datagrams = dialler.take()
    assert [len(datagram) for datagram in datagrams] == [MTU] * 100
    assert all(listener.receive(datagram) for datagram in datagrams)


def test_each_packet_is_a_datagram_of_its_own_and_a_goodbye_is_heard() -> None:
    dialler, listener, _, _ = met()
    for size in (1, dialler.packet_bytes):
        dialler.send(bytes(size))
    one, two = dialler.take()
    assert len(two) == MTU
    assert listener.receive(one) == [bytes(1)]
    assert listener.receive(two) == [bytes(dialler.packet_bytes)]
    assert listener.receive(two) == []  # replayed
    dialler.close()
    with pytest.raises(DtlsClosed):
        [listener.receive(datagram) for datagram in dialler.take()]


@given(st.lists(st.binary(max_size=200) | st.binary(max_size=80).map(lambda b: b"\x16\xfe\xfd" + b), max_size=8))
def test_garbage_makes_no_connection_and_spoils_none(datagrams: list[bytes]) -> None:
    greeter = Greeter(of_seed(bytes(32)))
    for datagram in datagrams:
        assert stun.request_in(datagram) is None
        answers, found = greeter.hear(datagram, HERE)
        assert found is None
        assert len(b"".join(answers)) <= len(datagram) + 60
    dialler = Dtls.dialling(ephemeral())
    dialler.proceed()
    (hello,) = dialler.take()
    assert greeter.hear(hello, HERE)[0]


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_in_a_handshake_is_a_fault_or_nothing(datagrams: list[bytes]) -> None:
    dialler = Dtls.dialling(ephemeral())
    dialler.proceed()
    try:
        for datagram in datagrams:
            dialler.receive(datagram)
    except DtlsFault:
        return
    assert not dialler.is_up


RECORDS = st.builds(
    lambda kind, epoch, number, body: (
        bytes([kind, 0xFE, 0xFD]) + epoch.to_bytes(2) + number.to_bytes(6) + len(body).to_bytes(2) + body
    ),
    st.sampled_from([20, 21, 22, 23, 24, 26]), st.sampled_from([0, 1, 2]), st.integers(0, 100), st.binary(max_size=80),
)  # fmt: skip


@given(st.lists(RECORDS | st.binary(max_size=100), max_size=6))
def test_forged_datagrams_do_not_end_a_connection(datagrams: list[bytes]) -> None:
    dialler, listener, _, _ = met()
    for datagram in datagrams:
        assert listener.receive(datagram) == []
        assert dialler.receive(datagram) == []
    dialler.send(b"still here")
    (datagram,) = dialler.take()
    assert listener.receive(datagram) == [b"still here"]


@given(
    st.lists(st.tuples(st.binary(max_size=MAX_PAYLOAD_BYTES), st.sampled_from([None, *Flag])), max_size=6), st.data()
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    said: list[tuple[bytes, Flag | None]], data: st.DataObject
) -> None:
    whole = b"".join(frame(payload, flag) for payload, flag in said)
    deframer, heard = Deframer(), []
    while whole:
        cut = data.draw(st.integers(1, len(whole)))
        heard += deframer.feed(whole[:cut])
        whole = whole[cut:]
    assert heard == said
    assert deframer.held == 0


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_frames_of_garbage_are_frames_or_a_fault(datagrams: list[bytes]) -> None:
    deframer = Deframer()
    try:
        for datagram in datagrams:
            list(deframer.feed(datagram))
    except FrameFault:
        return
    assert deframer.held <= 1500


def handshakes(dialler: bytes = b"d", listener: bytes = b"l") -> tuple[Handshake, Handshake]:
    left = Handshake(create_new_key_pair(bytes(32)), dialler=b"d", listener=b"l", begins=True)
    return left, Handshake(create_new_key_pair(bytes([1] * 32)), dialler=dialler, listener=listener, begins=False)


def test_each_proves_to_the_other_who_it_is_byte_by_byte() -> None:
    left, right = handshakes()
    message = left.begin()
    second = b"".join(right.feed(bytes([byte])) for byte in message)
    third = b"".join(left.feed(bytes([byte])) for byte in second)
    assert right.feed(third) == b""
    assert left.peer_id == ID.from_pubkey(create_new_key_pair(bytes([1] * 32)).public_key)
    assert right.peer_id == ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)


def test_another_certificate_than_the_one_that_was_seen_is_a_fault() -> None:
    left, right = handshakes(listener=b"of somebody between")
    second = right.feed(left.begin())
    with pytest.raises(NoiseFault):
        left.feed(second)


@given(st.binary(min_size=2, max_size=300))
def test_garbage_in_the_place_of_noise_proves_nothing(data: bytes) -> None:
    for handshake in handshakes():
        try:
            handshake.feed(data)
        except NoiseFault:
            continue
        assert handshake.peer_id is None
