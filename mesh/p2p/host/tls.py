"""libp2p's TLS 1.3 (specs/tls/tls.md) over a connection of bytes.

Python's ssl cannot ask a client for a certificate that no authority has signed. py-libp2p's own transport reaches into
CPython's memory for it, takes a handshake that timed out for a finished one, and ends after 100 short reads; this is
pyOpenSSL, which has a callback for it.
"""

from contextlib import suppress

import trio
from libp2p.abc import IRawConnection, ISecureConn, ISecureTransport
from libp2p.crypto.keys import KeyPair, PublicKey
from libp2p.custom_types import TProtocol
from libp2p.io.abc import EncryptedMsgReadWriter
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.secure_session import SecureSession
from OpenSSL import SSL

from mesh.p2p.host.certificates import ALPN, identity_in, make_certificate

PROTOCOL_ID = TProtocol("/tls/1.0.0")
_ALPN = ALPN.encode()
_READ_BYTES = 64 * 1024
# One read can bring thousands of records, each with next to nothing in it.
_RECORDS_AT_ONCE = 64


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
        self.ended = False
        self.behind = False

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

    def open(self, data: bytes) -> bytes:
        """What can be read once ``data`` has come; sets ``ended``, and ``behind``. Raises ConnectionClosedError."""
        if data:
            self._tls.bio_write(data)
        parts: list[bytes] = []
        try:
            while len(parts) < _RECORDS_AT_ONCE:
                parts.append(self._tls.recv(_READ_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            raise ConnectionClosedError(f"TLS: {_reason(error)}", transport="tls") from error
        self.behind = len(parts) == _RECORDS_AT_ONCE
        return b"".join(parts)

    def seal(self, data: bytes) -> bytes:
        """What must be sent for ``data``."""
        self._tls.sendall(data)
        return self.outgoing()

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
        while outgoing := self.outgoing():
            await self._raw.write(outgoing)

    def outgoing(self) -> bytes:
        """What OpenSSL wants to have sent: data that was sealed, and what TLS itself says to a change of keys."""
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


def _context(key_pair: KeyPair) -> SSL.Context:
    certificate, key = make_certificate(key_pair)
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.use_certificate(certificate)
    context.use_privatekey(key)  # type: ignore[arg-type]
    # No authority signs these; `identity_in` judges them. OpenSSL has checked that the peer has the key.
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
    others = chain[1:] if initiator else chain  # a server's chain leaves out the certificate itself
    return identity_in([certificate, *others] if certificate is not None else [])


def _reason(error: SSL.Error) -> str:
    return str(error.args[0][-1][-1]) if error.args and error.args[0] else type(error).__name__
