"""Files and ciphers of private networks, against those who had them first."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.secret import SecretBox

from mesh.errors import ConfigError
from mesh.p2p import network_key
from mesh.p2p.host.salsa import hsalsa20, xsalsa20

HEX = bytes(range(32)).hex().encode()


def test_hsalsa20_is_that_of_its_author() -> None:
    """D. J. Bernstein, "Cryptography in NaCl", section 8: first and second key of the example."""
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    first = hsalsa20(shared, bytes(16))
    assert first.hex() == "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d6")
    assert hsalsa20(first, nonce).hex() == "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24), st.lists(st.binary(max_size=200)))
def test_xsalsa20_is_libsodiums_in_whatever_pieces(key: bytes, nonce: bytes, pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    sealed = SecretBox(key).encrypt(text, nonce).ciphertext[16:]  # its first 32 bytes of keystream make the tag
    cipher = xsalsa20(key, nonce)
    cipher.encrypt(bytes(32))
    assert b"".join(cipher.encrypt(piece) for piece in pieces) == sealed


@pytest.mark.parametrize(("key", "nonce"), [(bytes(31), bytes(24)), (bytes(32), bytes(8))])
def test_keys_and_nonces_of_another_length_are_refused(key: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="XSalsa20"):
        xsalsa20(key, nonce)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_comes_back_from_its_file(key: bytes) -> None:
    assert network_key.decode(network_key.encode(key)) == key


@pytest.mark.parametrize(
    "body",
    [
        b"/base16/\n" + HEX,
        b"/base16/\r\n" + HEX.upper() + b"\r\n",
        b"/base64/\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        b"/bin/\n" + bytes(range(32)),
    ],
)
def test_the_three_ways_to_write_a_key_are_read(body: bytes) -> None:
    assert network_key.decode(b"/key/swarm/psk/1.0.0/\n" + body) == bytes(range(32))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "does not begin with"),
        (b"/key/swarm/psk/2.0.0/\n/base16/\n" + HEX, "does not begin with"),
        (b"/key/swarm/psk/1.0.0/\n/base58/\n" + HEX, "none of"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\nxyz", "not /base16/"),
        (b"/key/swarm/psk/1.0.0/\n/base64/\n!!!!", "not /base64/"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n" + HEX[:-2], "31 bytes"),
    ],
)
def test_what_is_no_key_says_why(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network_key.decode(text)


def test_the_fingerprint_hides_the_key_and_tells_keys_apart() -> None:
    one, other = network_key.fingerprint(bytes(32)), network_key.fingerprint(bytes(range(32)))
    assert one != other
    assert one not in (bytes(32).hex(), hashlib.shake_128(bytes(32)).hexdigest(16))
    assert len(one) == 32


def test_a_key_is_kept_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "swarm.key"
    network_key.write_file(file, bytes(32))
    assert file.stat().st_mode & 0o777 == 0o600
    assert network_key.read_file(file) == bytes(32)
    with pytest.raises(FileExistsError):
        network_key.write_file(file, bytes(range(32)))


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "swarm.key"
    network_key.write_file(file, bytes(32))
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="0640") as raised:
        network_key.read_file(file)
    assert f"chmod 600 {file}" in raised.value.remedy


def test_a_file_that_is_not_there_or_no_key_names_itself(tmp_path: Path) -> None:
    for content in (None, b"junk"):
        file = tmp_path / "swarm.key"
        if content is not None:
            file.write_bytes(content)
            file.chmod(0o600)
        with pytest.raises(ConfigError, match=str(file)) as raised:
            network_key.read_file(file)
        assert raised.value.remedy


def test_the_example_in_the_protocol_is_ours() -> None:
    greeting = xsalsa20(bytes(range(32)), bytes(range(0x20, 0x38))).encrypt(b"\x13/multistream/1.0.0\n").hex()
    text = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
    assert f"`{greeting}`" in text
    assert all(line in text for line in network_key.encode(bytes(range(32))).decode().splitlines())
