"""The key of a private network, in the file format of libp2p's other implementations (kubo calls it ``swarm.key``)."""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from pathlib import Path

from Crypto.Cipher import Salsa20

from mesh.errors import ConfigError

KEY_BYTES = 32
_HEADER = b"/key/swarm/psk/1.0.0/"
_REMEDY = "`mesh psk new FILE` makes one; every node of the network needs the same file."


def generate() -> bytes:
    """A new key."""
    return secrets.token_bytes(KEY_BYTES)


def encode(key: bytes) -> bytes:
    """A key as its file."""
    return b"%s\n/base16/\n%s\n" % (_HEADER, key.hex().encode())


def decode(text: bytes) -> bytes:
    """The key in a file's text: base16, base64 or raw bytes (``/bin/``). Raises ValueError that says what is wrong."""
    header, _, rest = text.partition(b"\n")
    encoding, _, body = rest.partition(b"\n")
    if header.strip() != _HEADER:
        raise ValueError(f"it does not begin with {_HEADER.decode()}")
    try:
        key = _decoded(encoding.strip(), body)
    except binascii.Error as error:
        raise ValueError(f"its key is not {encoding.strip().decode()}: {error}") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"its key has {len(key)} bytes, not {KEY_BYTES}")
    return key


def _decoded(encoding: bytes, body: bytes) -> bytes:
    match encoding:
        case b"/base16/":
            return binascii.unhexlify(body.strip())
        case b"/base64/":
            return base64.b64decode(body.strip(), validate=True)
        case b"/bin/":
            return body[:KEY_BYTES]
    raise ValueError("its second line is none of /base16/, /base64/ and /bin/")


def fingerprint(key: bytes) -> str:
    """What two operators compare, as kubo prints it: SHAKE-128 of 64 zeros under the key. It gives nothing away."""
    return hashlib.shake_128(Salsa20.new(key=key, nonce=b"finprint").encrypt(bytes(64))).hexdigest(16)


def write_file(path: Path, key: bytes) -> None:
    """Keep a key for the owner of the file alone. Raises FileExistsError, and OSError where nothing can be written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode(key))


def read_file(path: Path) -> bytes:
    """The key of a file that only its owner may read. Raises ConfigError."""
    try:
        text = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"the network key {path} cannot be read: {error.strerror}", remedy=_REMEDY) from error
    if mode & 0o077:
        raise ConfigError(
            f"the network key {path} can be read by others (mode {mode:04o})", remedy=f"Run chmod 600 {path}."
        )
    try:
        return decode(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not a network key: {error}", remedy=_REMEDY) from error
