"""Ed25519 by libsodium and in Python alone: the same keys and signatures, and the same signatures refused."""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.ed25519 import rfc8032, sodium

BOTH = pytest.mark.parametrize("ed25519", [sodium, rfc8032], ids=["sodium", "rfc8032"])
ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19
seeds = st.binary(min_size=32, max_size=32)
messages = st.binary(max_size=64)

# RFC 8032, section 7.1: seed, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
# Points of order 1, 2, 4 and 8, and encodings of y that are not below the field's size.
SMALL = [
    (1).to_bytes(32, "little"),
    (FIELD - 1).to_bytes(32, "little"),
    bytes(32),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]
NOT_CANONICAL = [(FIELD + small).to_bytes(32, "little") for small in (0, 1, 3, 18)]


@BOTH
@pytest.mark.parametrize("vector", VECTORS)
def test_the_vectors_of_the_rfc(ed25519: ModuleType, vector: tuple[str, ...]) -> None:
    seed, public_key, message, signature = map(bytes.fromhex, vector)
    assert ed25519.public_key_of_seed(seed) == public_key
    assert ed25519.sign(seed, public_key, message) == signature
    assert ed25519.verify(public_key, message, signature)
    assert not ed25519.verify(public_key, message + b"x", signature)


@settings(max_examples=20, deadline=None)
@given(seeds, messages)
def test_both_give_the_same_keys_and_signatures_and_take_each_others(seed: bytes, message: bytes) -> None:
    public_key = sodium.public_key_of_seed(seed)
    assert rfc8032.public_key_of_seed(seed) == public_key
    signature = rfc8032.sign(seed, public_key, message)
    assert signature == sodium.sign(seed, public_key, message)
    assert sodium.verify(public_key, message, signature)
    assert rfc8032.verify(public_key, message, signature)


@settings(max_examples=40, deadline=None)
@given(seeds, messages, st.integers(0, 511), st.booleans())
def test_both_refuse_a_signature_or_key_with_one_bit_changed(
    seed: bytes, message: bytes, bit: int, in_key: bool
) -> None:
    public_key = sodium.public_key_of_seed(seed)
    signature = sodium.sign(seed, public_key, message)
    if in_key:
        public_key = flipped(public_key, bit % 256)
    else:
        signature = flipped(signature, bit)
    assert not rfc8032.verify(public_key, message, signature)
    assert not sodium.verify(public_key, message, signature)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=40), messages, st.binary(max_size=70))
def test_both_refuse_junk(public_key: bytes, message: bytes, signature: bytes) -> None:
    assert not rfc8032.verify(public_key, message, signature)
    assert not sodium.verify(public_key, message, signature)


@BOTH
def test_a_response_as_large_as_the_order_is_refused(ed25519: ModuleType) -> None:
    seed = bytes(32)
    public_key = ed25519.public_key_of_seed(seed)
    signature = ed25519.sign(seed, public_key, b"message")
    response = int.from_bytes(signature[32:], "little") + ORDER
    assert not ed25519.verify(public_key, b"message", signature[:32] + response.to_bytes(32, "little"))


@BOTH
@pytest.mark.parametrize("encoding", [*SMALL, *NOT_CANONICAL], ids=bytes.hex)
def test_points_of_small_order_and_second_encodings_are_refused(ed25519: ModuleType, encoding: bytes) -> None:
    """With such a key and commitment, a response of 0 would fit any message."""
    for key in (encoding, flipped(encoding, 255)):
        assert not ed25519.verify(key, b"message", key + bytes(32))
        assert not ed25519.verify(sodium.public_key_of_seed(bytes(32)), b"message", key + bytes(32))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
