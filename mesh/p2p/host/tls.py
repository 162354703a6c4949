"""libp2p's TLS 1.3 (specs/tls/tls.md): certificates that sign themselves, with the PeerId's signature inside.

Python's ssl cannot ask a client for a certificate that no authority has signed. py-libp2p's own transport reaches into
CPython's memory for it, takes a handshake that timed out for a finished one, and ends after 100 short reads; this is
pyOpenSSL, which has a callback for it. What a certificate must say is still py-libp2p's to check.
"""

import datetime as dt
from contextlib import suppress

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from libp2p.abc import IRawConnection, ISecureConn, ISecureTransport
from libp2p.crypto.keys import KeyPair, PublicKey
from libp2p.custom_types import TProtocol
from libp2p.io.abc import EncryptedMsgReadWriter
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.secure_session import SecureSession
from libp2p.security.tls.certificate import (
    LIBP2P_EXTENSION_OID,
    generate_certificate,
    verify_certificate_chain,
)
from OpenSSL import SSL

PROTOCOL_ID = TProtocol("/tls/1.0.0")
_ALPN = b"libp2p"
_READ_BYTES = 64 * 1024
_UNDERSTOOD = {
    LIBP2P_EXTENSION_OID,
    x509.oid.ExtensionOID.BASIC_CONSTRAINTS,
    x509.oid.ExtensionOID.KEY_USAGE,
    x509.oid.ExtensionOID.EXTENDED_KEY_USAGE,
}


class TlsTransport(ISecureTransport):
    """Secures connections with one certificate for the life of this process."""

    def __init__(self, key_pair: KeyPair) -> None:
        self._key_pair = key_pair
        self._context = _context(key_pair)

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        """As the server: whoever it proves to be. Raises HandshakeFailure."""
        return await self._secure(conn, initiator=False)

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        """As the client: must be ``peer_id``. Raises HandshakeFailure."""
        session = await self._secure(conn, initiator=True)
        if session.get_remote_peer() != peer_id:
            raise HandshakeFailure(f"it is {session.get_remote_peer()}, not {peer_id}")
        return session

    async def _secure(self, conn: IRawConnection, *, initiator: bool) -> ISecureConn:
        tls = SSL.Connection(self._context, None)
        tls.set_connect_state() if initiator else tls.set_accept_state()
        stream = TlsStream(conn, tls)
        await stream.handshake()
        public_key = _key_of_peer(tls, initiator=initiator)
        return SecureSession(
            local_peer=ID.from_pubkey(self._key_pair.public_key),
            local_private_key=self._key_pair.private_key,
            remote_peer=ID.from_pubkey(public_key),
            remote_permanent_pubkey=public_key,
            is_initiator=initiator,
            conn=stream,
        )


class TlsStream(EncryptedMsgReadWriter):
    """Bytes through OpenSSL's memory: one task may read while another writes."""

    def __init__(self, raw: IRawConnection, tls: SSL.Connection) -> None:
        self._raw = raw
        self._tls = tls
        self._sending = trio.Lock()

    async def handshake(self) -> None:
        """Until the keys are agreed and the other side has shown a certificate. Raises HandshakeFailure."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except SSL.WantReadError:
                await self._send(b"")
                if not await self._receive():
                    raise HandshakeFailure("it hung up in the TLS handshake") from None
            except SSL.Error as error:
                await self._send(b"")  # the alert that says why
                raise HandshakeFailure(f"TLS: {_reason(error)}") from error
        await self._send(b"")
        if self._tls.get_alpn_proto_negotiated() != _ALPN:
            raise HandshakeFailure("it did not agree on libp2p by ALPN")

    async def read_msg(self) -> bytes:
        """What has come, b"" at the end. Raises ConnectionClosedError for what is not TLS."""
        while True:
            try:
                return self._tls.recv(_READ_BYTES)
            except SSL.WantReadError:
                await self._answer()
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise ConnectionClosedError(f"TLS: {_reason(error)}", transport="tls") from error
            if not await self._receive():
                return b""

    async def write_msg(self, msg: bytes) -> None:
        """Send it. Raises ConnectionClosedError when TLS has ended."""
        try:
            await self._send(msg)
        except SSL.Error as error:
            raise ConnectionClosedError(f"TLS: {_reason(error)}", transport="tls") from error

    async def _receive(self) -> bool:
        data = await self._raw.read(_READ_BYTES)
        if data:
            self._tls.bio_write(data)
        return bool(data)

    async def _answer(self) -> None:
        """Send what TLS itself has to say, to a change of keys. A reader never waits for a writer: both ends might."""
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            return  # who is sending takes it along
        try:
            await self._drain()
        finally:
            self._sending.release()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            if data:
                self._tls.sendall(data)
            await self._drain()

    async def _drain(self) -> None:
        while outgoing := self._outgoing():
            await self._raw.write(outgoing)

    def _outgoing(self) -> bytes:
        parts = []
        with suppress(SSL.WantReadError):
            while True:
                parts.append(self._tls.bio_read(_READ_BYTES))
        return b"".join(parts)

    def encrypt(self, data: bytes) -> bytes:
        """See EncryptedMsgReadWriter; `write_msg` does it."""
        return data

    def decrypt(self, data: bytes) -> bytes:
        """See EncryptedMsgReadWriter; `read_msg` does it."""
        return data

    async def close(self) -> None:
        """Close the connection."""
        await self._raw.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """See EncryptedMsgReadWriter."""
        return self._raw.get_remote_address()


def _template() -> x509.CertificateBuilder:
    """Without the extensions of py-libp2p's: js-libp2p wants libp2p's to be the first. Good for any clock."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "libp2p")])
    begin, end = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2199, 12, 31, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name).serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(end)


def _context(key_pair: KeyPair) -> SSL.Context:
    certificate, key = generate_certificate(key_pair.private_key, _template())
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.use_certificate(x509.load_pem_x509_certificate(certificate.encode()))
    context.use_privatekey(load_pem_private_key(key.encode(), None))  # type: ignore[arg-type]
    # No authority signs these; `_key_of_peer` judges them. OpenSSL has checked that the peer has the key.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.set_alpn_protos([_ALPN])
    context.set_alpn_select_callback(
        lambda _, offered: _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS,
    )
    return context


def _key_of_peer(tls: SSL.Connection, *, initiator: bool) -> PublicKey:
    """The identity that a certificate proves. Raises HandshakeFailure."""
    certificate = tls.get_peer_certificate(as_cryptography=True)
    chain = tls.get_peer_cert_chain(as_cryptography=True) or []
    if certificate is None or len(chain) > int(initiator):  # a server's chain leaves out the certificate itself
        raise HandshakeFailure("it must show one certificate")
    try:
        strange = [one.oid for one in certificate.extensions if one.critical and one.oid not in _UNDERSTOOD]
        public_key = verify_certificate_chain([certificate])
    except Exception as error:
        raise HandshakeFailure(f"its certificate proves no PeerId: {error}") from error
    if strange:
        raise HandshakeFailure("its certificate has a critical extension that nobody here understands")
    return public_key


def _reason(error: SSL.Error) -> str:
    return str(error.args[0][-1][-1]) if error.args and error.args[0] else type(error).__name__
