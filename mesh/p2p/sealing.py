"""Payloads sealed from one node to another: keys, records, padding. Pure: randomness is an argument.

Noise ends where the overlay's process does; this ends in the nodes. Both sides of a stream bring an X25519 key that is
made for that stream alone (in their hellos), and one that follows from their Ed25519 identity. From three
Diffie-Hellman results comes the secret of the stream, from that a key for each call and direction. So nobody without
the stream's own keys can read it later, nobody without an identity can take its place, and what was sealed for one
call opens in no other. `docs/protocol.md` has the formats and test vectors.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Literal

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
)
from nacl.exceptions import CryptoError

from mesh.errors import PeerMisbehaved
from mesh.identity import Identity, public_key_of

LABEL = b"mesh-seal/1"
KEY_BYTES = 32
TAG_BYTES = 16
LEAST_RECORD_BYTES = 256

_SIZE = struct.Struct(">I")
_NONCE = struct.Struct(">B3xQ")

Direction = Literal["request", "answer"]


def padded_size(size: int) -> int:
    """The size class of a record of ``size`` bytes: Padmé, at least 256.

    At most an eighth more, and a 32nd of a large one, for a choice of few sizes. K. Nikitin, L. Barman, W. Lueks,
    M. Underwood, J.-P. Hubaux, B. Ford: "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
    PoPETs 2019, section 4.
    """
    if size <= LEAST_RECORD_BYTES:
        return LEAST_RECORD_BYTES
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


@dataclass(frozen=True)
class StreamKey:
    """The X25519 pair that one side of one stream makes for it; ``public`` goes into the hello, as hex."""

    secret: bytes
    public: bytes


def stream_key(seed: bytes) -> StreamKey:
    """The pair of 32 random bytes, which nobody else may see and nothing else may use."""
    return StreamKey(seed, crypto_scalarmult_base(seed))


class Seals:
    """The secret that both sides of one stream share, and the records that it seals."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sealer(self, direction: Direction, call: int) -> "Sealer":
        """What seals, or opens, the records of one direction of one call."""
        info = LABEL + b" " + direction.encode() + b" " + call.to_bytes(8, "big")
        return Sealer(_expand(self._secret, info))


def agree(identity: Identity, ours: StreamKey, peer: str, theirs: str, *, opener: bool) -> Seals:
    """The stream's secret, the same on both sides. ``theirs`` is what the peer's hello holds.

    Raises PeerMisbehaved("seal") for a key that is none.
    """
    if len(theirs) != 2 * KEY_BYTES:
        raise PeerMisbehaved("seal", f"a key of {len(theirs)} hex digits")
    try:
        public = bytes.fromhex(theirs)
        own_static = crypto_sign_ed25519_sk_to_curve25519(identity.seed + identity.public_key)
        their_static = crypto_sign_ed25519_pk_to_curve25519(public_key_of(peer))
        both = crypto_scalarmult(ours.secret, public)
        to_them = crypto_scalarmult(ours.secret, their_static)
        to_us = crypto_scalarmult(own_static, public)
    except (CryptoError, ValueError, TypeError) as error:
        raise PeerMisbehaved("seal", f"no key comes from what the hello holds: {str(error)[:100]}") from None
    if opener:
        results = both + to_them + to_us
        parties = (identity.peer_id.encode(), peer.encode(), ours.public, public)
    else:
        results = both + to_us + to_them
        parties = (peer.encode(), identity.peer_id.encode(), public, ours.public)
    context = b"".join(_SIZE.pack(len(party)) + party for party in parties)
    extracted = hmac.digest(LABEL, results, "sha256")
    return Seals(_expand(extracted, LABEL + b" stream " + hashlib.sha256(context).digest()))


def _expand(key: bytes, info: bytes) -> bytes:
    """The first block of HKDF-Expand with SHA-256 (RFC 5869)."""
    return hmac.digest(key, info + b"\x01", "sha256")


class Sealer:
    """Records of one direction of one call, in order. A record holds ``u32 size``, the content, and zeros.

    The nonce of a record is its number, and whether it is the last, so that none can be left out, moved or put last.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._records = 0

    def seal(self, content: bytes, *, last: bool) -> bytes:
        """The next record: its size is one of the classes, and says no more than that."""
        size = padded_size(_SIZE.size + len(content) + TAG_BYTES) - TAG_BYTES
        plain = (_SIZE.pack(len(content)) + content).ljust(size, b"\0")
        return crypto_aead_chacha20poly1305_ietf_encrypt(plain, None, self._nonce(last=last), self._key)

    def open(self, record: bytes, *, last: bool) -> bytes:
        """The content of the next record. Raises PeerMisbehaved("seal")."""
        if len(record) < _SIZE.size + TAG_BYTES:
            raise PeerMisbehaved("seal", f"a sealed record of {len(record)} bytes")
        try:
            plain = crypto_aead_chacha20poly1305_ietf_decrypt(record, None, self._nonce(last=last), self._key)
        except CryptoError:
            raise PeerMisbehaved("seal", "a sealed record does not open") from None
        (size,) = _SIZE.unpack_from(plain)
        if size > len(plain) - _SIZE.size:
            raise PeerMisbehaved("seal", f"{size} bytes of content in a record of {len(plain)}")
        return plain[_SIZE.size : _SIZE.size + size]

    def _nonce(self, *, last: bool) -> bytes:
        nonce = _NONCE.pack(last, self._records)
        self._records += 1
        return nonce
