"""The node's Ed25519 identity: one key file, from which libp2p's PeerId and every signature come."""

import os
import stat
from functools import lru_cache
from pathlib import Path

import base58

from mesh import ed25519
from mesh.errors import IdentityError

SEED_BYTES = 32
# libp2p's PublicKey message (key type 1 = Ed25519, 32 bytes of data) inside an identity multihash (code 0x00).
# https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
_PEER_ID_PREFIX = bytes.fromhex("002408011220")


class Identity:
    """An Ed25519 key pair and the libp2p PeerId that names it."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise IdentityError(
                f"an Ed25519 seed has {SEED_BYTES} bytes, this one has {len(seed)}",
                remedy="Restore the key file from a backup, or run `mesh init` in a new directory.",
            )
        self.seed = seed
        self.public_key = ed25519.public_key_of_seed(seed)
        self.peer_id = peer_id_of(self.public_key)

    @classmethod
    def generate(cls) -> "Identity":
        """A new identity from the operating system's randomness."""
        return cls(os.urandom(SEED_BYTES))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of ``message``."""
        return ed25519.sign(self.seed, self.public_key, message)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"


def peer_id_of(public_key: bytes) -> str:
    """The PeerId (base58btc, ``12D3Koo…``) of a raw 32-byte Ed25519 public key."""
    return base58.b58encode(_PEER_ID_PREFIX + public_key).decode()


@lru_cache(maxsize=4096)
def public_key_of(peer_id: str) -> bytes:
    """The raw Ed25519 public key inside a PeerId; raises ValueError for any other kind of PeerId."""
    raw = base58.b58decode(peer_id)
    if len(raw) != len(_PEER_ID_PREFIX) + SEED_BYTES or not raw.startswith(_PEER_ID_PREFIX):
        raise ValueError(f"{peer_id!r} is not the PeerId of an Ed25519 key")
    return raw[len(_PEER_ID_PREFIX) :]


def is_signed_by(peer_id: str, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the key that ``peer_id`` names."""
    try:
        public_key = public_key_of(peer_id)
    except ValueError:
        return False
    return ed25519.verify(public_key, message, signature)


def create_key_file(path: Path) -> Identity:
    """Make a new identity and store its seed, as hex, readable by its owner only.

    Raises IdentityError when the file already exists, since an identity is never overwritten, or cannot be written.
    """
    identity = Identity.generate()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise IdentityError(
            f"{path} already holds an identity", remedy="Keep it, or choose another directory with --home."
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(identity.seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        path.unlink()  # half a key would look like a damaged one
        raise _unwritable(path, error) from error
    return identity


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> IdentityError:
    return IdentityError(
        f"the key file {path} cannot be written: {error.strerror}",
        remedy="Its directory has to exist, belong to the user that runs the node, and have room on its disk.",
    )


def load_key_file(path: Path) -> Identity:
    """Read the identity stored by `create_key_file`.

    Raises IdentityError when the file is missing, cannot be read, can be read by others, or is malformed.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text().strip()
    except FileNotFoundError:
        raise IdentityError(
            f"there is no key file at {path}", remedy="Run `mesh init` first, with the same --home."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(
            f"the key file {path} cannot be read: {error}",
            remedy="Make it a text file owned by the user that runs the node, mode 0600.",
        ) from error
    if mode & 0o077:
        raise IdentityError(
            f"the key file {path} has mode {mode:04o}, so that others can read the node's key (limit: 0600)",
            remedy=f"Run `chmod 600 {path}`.",
        )
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        raise IdentityError(
            f"the key file {path} is not hex", remedy="Restore it from a backup: it is the node's identity."
        ) from None
    try:
        return Identity(seed)
    except IdentityError as error:
        raise IdentityError(f"the key file {path} is damaged: {error.what}", remedy=error.remedy) from None
