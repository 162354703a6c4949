import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p.frames import HEADER, OVERHEAD, Decoder, Frame, Kind, encode

FRAMES = [
    Frame(Kind.HELLO, 0, b"{}"),
    Frame(Kind.CANCEL, 7, b""),
    Frame(Kind.CHUNK, (1 << 64) - 1, b"x" * 300),
    Frame(Kind.PING, 3, bytes(8)),
]
BYTES = b"".join(encode(*frame) for frame in FRAMES)


def test_layout():
    assert encode(Kind.CHUNK, 5, b"hi").hex() == "0000000b" + "05" + "0000000000000005" + "6869"


@pytest.mark.parametrize("size", [1, 2, 3, 13, 14, 100, len(BYTES)])
def test_frames_come_out_however_the_bytes_were_cut(size):
    decoder = Decoder(1000)
    out = [f for start in range(0, len(BYTES), size) for f in decoder.feed(BYTES[start : start + size])]
    assert out == FRAMES


def test_a_frame_comes_out_with_its_last_byte_and_not_before():
    decoder = Decoder(1000)
    frame = encode(Kind.CHUNK, 1, b"abc")
    assert [decoder.feed(frame[i : i + 1]) for i in range(len(frame) - 1)] == [[]] * (len(frame) - 1)
    assert decoder.feed(frame[-1:]) == [Frame(Kind.CHUNK, 1, b"abc")]


def test_a_body_of_the_limit_passes_and_one_byte_more_is_refused_before_it_arrives():
    assert Decoder(10).feed(encode(Kind.CHUNK, 1, b"x" * 10)) == [Frame(Kind.CHUNK, 1, b"x" * 10)]
    with pytest.raises(PeerMisbehaved) as caught:
        Decoder(10).feed(encode(Kind.CHUNK, 1, b"x" * 11)[:4])
    assert caught.value.rule == "frame_too_large"


@pytest.mark.parametrize("length", [0, OVERHEAD - 1])
def test_a_frame_without_room_for_its_header_is_refused(length):
    with pytest.raises(PeerMisbehaved) as caught:
        Decoder(10).feed(length.to_bytes(4, "big"))
    assert caught.value.rule == "frame_too_short"


@pytest.mark.parametrize("kind", [0, 12, 255])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(PeerMisbehaved) as caught:
        Decoder(10).feed(HEADER.pack(OVERHEAD, kind, 1))
    assert caught.value.rule == "unknown_kind"


def test_a_trickle_costs_no_more_than_it_is_long():
    """One byte at a time must not copy the frame again and again: a frame's bytes are touched a few times in all."""
    decoder = Decoder(1 << 20)
    frame = encode(Kind.CHUNK, 1, bytes(1 << 20))
    for start in range(0, len(frame) - 1, 16):
        decoder.feed(frame[start : min(start + 16, len(frame) - 1)])
    assert decoder.feed(frame[-1:]) == [Frame(Kind.CHUNK, 1, bytes(1 << 20))]
