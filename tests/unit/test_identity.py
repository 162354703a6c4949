import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from mesh.errors import IdentityError
from mesh.identity import Identity, create_key_file, is_signed_by, load_key_file, peer_id_of, public_key_of

seeds = st.binary(min_size=32, max_size=32)


@given(seeds)
def test_the_peer_id_is_the_one_that_libp2p_gives_the_same_seed(seed):
    pair = create_new_key_pair(seed)
    identity = Identity(seed)
    assert identity.peer_id == ID.from_pubkey(pair.public_key).to_base58()
    assert identity.public_key == pair.public_key.to_bytes()


@given(seeds, st.binary())
def test_libp2p_accepts_our_signatures_and_we_accept_its(seed, message):
    pair = create_new_key_pair(seed)
    identity = Identity(seed)
    assert pair.public_key.verify(message, identity.sign(message))
    assert is_signed_by(identity.peer_id, message, pair.private_key.sign(message))


@given(seeds)
def test_a_peer_id_holds_its_key(seed):
    identity = Identity(seed)
    assert public_key_of(peer_id_of(identity.public_key)) == identity.public_key


@given(st.one_of(st.text(), st.text(alphabet="123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")))
def test_what_is_no_peer_id_of_ours_is_a_value_error_and_signs_nothing(text):
    with pytest.raises(ValueError, match=r".*"):
        public_key_of(text)
    assert not is_signed_by(text, b"message", bytes(64))


@given(st.binary(max_size=100))
def test_no_bytes_pass_for_a_signature(signature):
    assert not is_signed_by(Identity(bytes(32)).peer_id, b"message", signature)


def test_a_signature_is_for_one_message_and_one_key():
    one, other = Identity(bytes(32)), Identity(b"\1" * 32)
    signature = one.sign(b"message")
    assert is_signed_by(one.peer_id, b"message", signature)
    assert not is_signed_by(one.peer_id, b"massage", signature)
    assert not is_signed_by(other.peer_id, b"message", signature)


def test_two_new_identities_differ_and_show_no_key():
    one, other = Identity.generate(), Identity.generate()
    assert one.peer_id != other.peer_id
    assert one.seed.hex() not in repr(one)


def test_a_stored_identity_is_read_back_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "identity.key"
    old = os.umask(0)
    try:
        identity = create_key_file(path)
    finally:
        os.umask(old)
    assert load_key_file(path).peer_id == identity.peer_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_identity_is_never_overwritten(tmp_path):
    path = tmp_path / "identity.key"
    kept = create_key_file(path)
    with pytest.raises(IdentityError, match="already"):
        create_key_file(path)
    assert load_key_file(path).peer_id == kept.peer_id


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "identity.key"
    create_key_file(path)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"{mode:04o}") as caught:
        load_key_file(path)
    assert f"chmod 600 {path}" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not hex", b"abcd", b"00" * 31, b"00" * 33, b"z" * 64])
def test_garbage_is_refused_with_the_reason_and_a_remedy(tmp_path, content):
    path = tmp_path / "identity.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError) as caught:
        load_key_file(path)
    assert caught.value.remedy
    assert caught.value.exit_code == 77


def test_a_missing_key_says_how_to_make_one(tmp_path):
    with pytest.raises(IdentityError, match="mesh init"):
        load_key_file(tmp_path / "identity.key")


def test_a_key_in_place_of_a_directory_or_without_one_is_refused(tmp_path):
    (tmp_path / "identity.key").mkdir()
    with pytest.raises(IdentityError, match="cannot be read"):
        load_key_file(tmp_path / "identity.key")
    with pytest.raises(IdentityError, match="cannot be written"):
        create_key_file(Path(tmp_path / "nowhere" / "identity.key"))
