"""Records, keys and padding of sealed calls."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.errors import PeerMisbehaved
from mesh.identity import Identity
from mesh.p2p.sealing import LEAST_RECORD_BYTES, Seals, agree, padded_size, stream_key

ONE, TWO, THREE = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
KEY_ONE, KEY_TWO, KEY_THREE = (stream_key(bytes([number]) * 32) for number in (11, 12, 13))


def both() -> tuple[Seals, Seals]:
    opener = agree(ONE, KEY_ONE, TWO.peer_id, KEY_TWO.public.hex(), opener=True)
    acceptor = agree(TWO, KEY_TWO, ONE.peer_id, KEY_ONE.public.hex(), opener=False)
    return opener, acceptor


def refused(opener, record: bytes, *, last: bool) -> None:
    with pytest.raises(PeerMisbehaved) as caught:
        opener.open(record, last=last)
    assert caught.value.rule == "seal"


def test_what_one_seals_the_other_opens():
    opener, acceptor = both()
    for direction in ("request", "answer"):
        sealer, other = opener.sealer(direction, 7), acceptor.sealer(direction, 7)
        for content in (b"", b"x", bytes(70_000)):
            assert other.open(sealer.seal(content, last=False), last=False) == content
        assert other.open(sealer.seal(b"end", last=True), last=True) == b"end"


def test_a_record_opens_in_no_other_place():
    opener, acceptor = both()
    record = opener.sealer("request", 7).seal(b"secret", last=True)
    refused(acceptor.sealer("request", 8), record, last=True)  # another call
    refused(acceptor.sealer("answer", 7), record, last=True)  # the other direction
    refused(acceptor.sealer("request", 7), record, last=False)  # not as the last
    late = acceptor.sealer("request", 7)
    late.open(record, last=True)
    refused(late, record, last=True)  # a second time
    again = agree(TWO, KEY_THREE, ONE.peer_id, KEY_ONE.public.hex(), opener=False)
    refused(again.sealer("request", 7), record, last=True)  # on another stream


def test_records_keep_their_order():
    opener, acceptor = both()
    sealer, other = opener.sealer("answer", 1), acceptor.sealer("answer", 1)
    first, second = sealer.seal(b"1", last=False), sealer.seal(b"2", last=False)
    assert first != second
    refused(other, second, last=False)


def test_nobody_else_has_the_secret():
    record = both()[0].sealer("request", 1).seal(b"secret", last=True)
    outsiders = (
        agree(THREE, KEY_TWO, ONE.peer_id, KEY_ONE.public.hex(), opener=False),  # has not the identity
        agree(TWO, KEY_THREE, ONE.peer_id, KEY_ONE.public.hex(), opener=False),  # has not the stream's key
        agree(TWO, KEY_TWO, THREE.peer_id, KEY_ONE.public.hex(), opener=False),  # takes it for somebody else's
        agree(TWO, KEY_TWO, ONE.peer_id, KEY_ONE.public.hex(), opener=True),  # takes the other side
    )
    for outsider in outsiders:
        refused(outsider.sealer("request", 1), record, last=True)


@pytest.mark.parametrize("key", ["", "00" * 31, "00" * 33, "00" * 32, "01" + "00" * 31, "zz" * 32, "é" * 64])
def test_a_key_that_is_none_is_the_peers_fault(key):
    with pytest.raises(PeerMisbehaved) as caught:
        agree(ONE, KEY_ONE, TWO.peer_id, key, opener=True)
    assert caught.value.rule == "seal"


@given(st.integers(0, 1 << 40))
@example(256)
@example(257)
def test_classes_are_few_and_cost_an_eighth_at_most(size):
    padded = padded_size(size)
    assert padded >= max(size, LEAST_RECORD_BYTES)
    assert padded == padded_size(padded)
    assert padded <= max(LEAST_RECORD_BYTES, size + size // 8 + 1)
    assert padded.bit_length() - (padded & -padded).bit_length() <= padded.bit_length().bit_length()


def test_short_texts_look_the_same():
    sealer = both()[0].sealer("request", 1)
    assert {len(sealer.seal(bytes(size), last=False)) for size in range(237)} == {LEAST_RECORD_BYTES}


@given(st.binary(max_size=600), st.booleans())
def test_what_nobody_sealed_does_not_open(data, last):
    refused(both()[1].sealer("request", 1), data, last=last)


@given(st.binary(min_size=0, max_size=300), st.integers(0, 400), st.integers(0, 7))
def test_a_bent_record_does_not_open(content, at, bit):
    opener, acceptor = both()
    record = bytearray(opener.sealer("request", 1).seal(content, last=True))
    record[at % len(record)] ^= 1 << bit
    refused(acceptor.sealer("request", 1), bytes(record), last=True)
