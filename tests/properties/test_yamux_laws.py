"""Frames and ciphers, however their bytes are cut into pieces on the way."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.p2p.host.ciphers import CipherFault, NoiseCipher
from mesh.p2p.host.yamux.frames import Flag, Frame, FrameFault, Kind, Parser, encode
from tests.kit.yamux_pair import noise_pair

numbers = st.integers(0, 2**32 - 1)
flags = st.integers(0, 15)
data_frames = st.builds(
    lambda flags, stream, data: Frame(Kind.DATA, flags, stream, len(data), data), flags, numbers, st.binary(max_size=60)
)
other_frames = st.builds(
    Frame, st.sampled_from([Kind.WINDOW_UPDATE, Kind.PING, Kind.GO_AWAY]), flags, numbers, numbers, st.just(b"")
)
frames = st.lists(data_frames | other_frames, max_size=12)
cuts = st.lists(st.integers(0, 2000), max_size=20)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def whole(parts: list[Frame]) -> list[Frame]:
    """Parts of data frames put together again. Only the first says how much there is."""
    found: list[Frame] = []
    for part in parts:
        last = found[-1] if found else None
        if last is not None and last.kind == Kind.DATA and len(last.data) < last.value:
            assert (part.kind, part.stream, part.value) == (Kind.DATA, last.stream, 0)
            assert not last.flags & (Flag.FIN | Flag.RST), "it ends before its data"
            assert not part.flags & (Flag.SYN | Flag.ACK), "it begins after its data"
            found[-1] = last._replace(data=last.data + part.data, flags=last.flags | part.flags)
        else:
            found.append(part)
    return found


@given(frames, cuts)
def test_frames_are_the_same_however_they_arrive(sent: list[Frame], cuts: list[int]) -> None:
    parser = Parser()
    data = b"".join(encode(Kind(one.kind), one.flags, one.stream, one.value, one.data) for one in sent)
    assert whole([frame for piece in pieces(data, cuts) for frame in parser.feed(piece)]) == sent


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_what_is_no_frame_is_said_to_be_none(junk: list[bytes]) -> None:
    parser = Parser()
    with suppress(FrameFault):  # and nothing else
        for data in junk:
            parser.feed(data)


@given(st.lists(st.binary(max_size=300), max_size=10), cuts)
def test_what_is_sealed_is_opened_however_it_arrives(messages: list[bytes], cuts: list[int]) -> None:
    near, far = (NoiseCipher(noise) for noise in noise_pair())
    for sender, receiver in ((near, far), (far, near)):
        sealed = b"".join(map(sender.seal, messages))
        assert b"".join(map(receiver.open, pieces(sealed, cuts))) == b"".join(messages)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_changed_byte_is_noticed(message: bytes, data: st.DataObject) -> None:
    near, far = (NoiseCipher(noise) for noise in noise_pair())
    sealed = bytearray(near.seal(message))
    sealed[data.draw(st.integers(2, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CipherFault):
        far.open(bytes(sealed))


def test_more_than_fits_into_a_message_is_several() -> None:
    near, far = (NoiseCipher(noise) for noise in noise_pair())
    message = bytes(200_000)
    assert far.open(near.seal(message)) == message
