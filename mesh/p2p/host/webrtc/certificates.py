"""Certificates of DTLS, which prove nothing by themselves: their digest is in the address, and Noise binds to it.

A listener's is derived from the node's seed, byte for byte the same after every start: peers remember addresses. A
dialler makes a new one for each dial, as the specification asks: it could be recognised by it.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

_PURPOSE = b"synaptic-mesh webrtc-direct certificate 1"
# FIPS 186-5, section A.2.1: 64 bits more than the order of P-256 has, so that the remainder shows no bias.
_SCALAR_BYTES = 40
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256_MULTIHASH = bytes([0x12, 32])
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(2120, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key."""

    x509: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> bytes:
        """Its SHA-256 as a multihash."""
        return fingerprint_of(self.x509)


def of_seed(seed: bytes) -> Certificate:
    """The certificate of a listening node."""
    stretched = HKDF(hashes.SHA256(), _SCALAR_BYTES, salt=None, info=_PURPOSE).derive(seed)
    scalar = int.from_bytes(stretched, "big") % (_ORDER - 1) + 1
    return _certified(ec.derive_private_key(scalar, ec.SECP256R1()))


def ephemeral() -> Certificate:
    """The certificate of one dial."""
    return _certified(ec.generate_private_key(ec.SECP256R1()))


def fingerprint_of(certificate: x509.Certificate) -> bytes:
    """The SHA-256 of a certificate as a multihash."""
    return _SHA256_MULTIHASH + hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def certhash(fingerprint: bytes) -> str:
    """A multihash as it stands in an address: multibase, base64url."""
    return "u" + base64.urlsafe_b64encode(fingerprint).decode().rstrip("=")


def fingerprint_in(text: str) -> bytes:
    """The multihash in an address. Raises ValueError for another digest than SHA-256, or another base."""
    if not text.startswith("u"):
        raise ValueError(f"certhash {text[:80]!r} is not base64url (u…)")
    raw = base64.urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))
    if len(raw) != len(_SHA256_MULTIHASH) + 32 or not raw.startswith(_SHA256_MULTIHASH):
        raise ValueError(f"certhash {text[:80]!r} is not a SHA-256")
    return raw


def _certified(key: ec.EllipticCurvePrivateKey) -> Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "libp2p")])
    public = key.public_key()
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(int.from_bytes(hashlib.sha256(point).digest()[:8], "big") >> 1 | 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return Certificate(certificate, key)
