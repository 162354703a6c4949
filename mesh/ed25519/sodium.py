"""Ed25519 by libsodium: in constant time, and fast."""

from nacl.bindings import (
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_PUBLICKEYBYTES,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError


def public_key_of_seed(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    public_key: bytes = crypto_sign_seed_keypair(seed)[0]
    return public_key


def sign(seed: bytes, public_key: bytes, message: bytes) -> bytes:
    """The 64-byte signature of ``message`` by the key pair."""
    signed: bytes = crypto_sign(message, seed + public_key)
    return signed[:crypto_sign_BYTES]


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the private half of ``public_key``."""
    if len(public_key) != crypto_sign_PUBLICKEYBYTES or len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
