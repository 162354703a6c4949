"""Certificates of libp2p's TLS 1.3 (specs/tls/tls.md): they sign themselves, with the PeerId's signature inside.

What a certificate must say is py-libp2p's to check; what it may not say besides, and how many there may be, is ours.
"""

import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from libp2p.crypto.keys import KeyPair, PublicKey
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.tls.certificate import (
    LIBP2P_EXTENSION_OID,
    generate_certificate,
    verify_certificate_chain,
)

ALPN = "libp2p"
_UNDERSTOOD = {
    LIBP2P_EXTENSION_OID,
    x509.oid.ExtensionOID.BASIC_CONSTRAINTS,
    x509.oid.ExtensionOID.KEY_USAGE,
    x509.oid.ExtensionOID.EXTENDED_KEY_USAGE,
}


def make_certificate(key_pair: KeyPair) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
    """A certificate that proves the identity of ``key_pair``, and its own key."""
    certificate, key = generate_certificate(key_pair.private_key, _template())
    own = load_pem_private_key(key.encode(), None)
    return x509.load_pem_x509_certificate(certificate.encode()), own  # type: ignore[return-value]


def identity_in(certificates: Sequence[x509.Certificate]) -> PublicKey:
    """The identity that a peer's certificates prove: there must be one. Raises HandshakeFailure."""
    if len(certificates) != 1:
        raise HandshakeFailure("it must show one certificate")
    (certificate,) = certificates
    try:
        strange = [one.oid for one in certificate.extensions if one.critical and one.oid not in _UNDERSTOOD]
        public_key = verify_certificate_chain([certificate])
    except Exception as error:
        raise HandshakeFailure(f"its certificate proves no PeerId: {error}") from error
    if strange:
        raise HandshakeFailure("its certificate has a critical extension that nobody here understands")
    return public_key


def _template() -> x509.CertificateBuilder:
    """Without the extensions of py-libp2p's: js-libp2p wants libp2p's to be the first. Good for any clock."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "libp2p")])
    begin, end = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2199, 12, 31, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name).serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(end)
