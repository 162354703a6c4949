"""A signature holds for one answer to one request by one expert, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.experts.answers import digest, sign_answer, signed_bytes, verify_answer
from mesh.identity import Identity

SIGNER = Identity(bytes(32))
OTHER = Identity(b"\x01" * 32)
FIELDS = {"request": "r1", "expert": "solver", "model": "sympy 1.14.0", "digest": digest("42")}


def test_a_signature_is_the_signers():
    signature = sign_answer(SIGNER, **FIELDS)
    assert verify_answer(SIGNER.peer_id, signature, **FIELDS)
    assert not verify_answer(OTHER.peer_id, signature, **FIELDS)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_can_be_exchanged(field):
    signature = sign_answer(SIGNER, **FIELDS)
    assert not verify_answer(SIGNER.peer_id, signature, **{**FIELDS, field: FIELDS[field] + "x"})


@pytest.mark.parametrize("signature", ["", "zz", "00", "00" * 64, "é" * 64])
def test_what_is_no_signature_does_not_verify(signature):
    assert not verify_answer(SIGNER.peer_id, signature, **FIELDS)


def test_an_unusable_peer_id_does_not_verify():
    assert not verify_answer("QmNotEd25519", sign_answer(SIGNER, **FIELDS), **FIELDS)


@pytest.mark.parametrize("other", [("r", "1expert", "m", "d"), ("r1expert", "", "m", "d"), ("r1", "expertm", "", "d")])
def test_text_cannot_move_from_one_field_to_the_next(other):
    assert signed_bytes(*other) != signed_bytes("r1", "expert", "m", "d")


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_different_answers_never_share_their_signed_bytes(one, other):
    assert (signed_bytes(*one) == signed_bytes(*other)) == (one == other)


@given(st.text(st.characters()))
def test_any_string_has_a_digest(text):
    assert len(digest(text)) == 64


def test_the_digest_is_plain_sha256_of_the_text():
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
