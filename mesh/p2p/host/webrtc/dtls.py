"""DTLS 1.2 without I/O, on pyOpenSSL: datagrams in, datagrams out."""

import hashlib
import hmac
import os

from cryptography import x509
from OpenSSL import SSL

from mesh.p2p.host.webrtc.certificates import Certificate, fingerprint_of

# Of a datagram. The specification reckons with packets of 1280 bytes: IPv6 and UDP headers take 48 of them.
MTU = 1200
_RECORD_HEADER = 13
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_READ_BYTES = 1 << 16
_CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384"


class DtlsFault(ConnectionError):
    """What came is no DTLS, or not the peer whose address it was to be."""


class DtlsClosed(ConnectionError):
    """The peer has closed the connection."""


class Dtls:
    """One connection."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._ssl = connection
        self.is_up = False

    @classmethod
    def dialling(cls, certificate: Certificate) -> "Dtls":
        """Of the side that dials; `proceed` says hello."""
        connection = _connection(_context(certificate))
        connection.set_connect_state()
        return cls(connection)

    def proceed(self) -> None:
        """Say what is to be said next in the handshake. Raises DtlsFault."""
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            return
        except (SSL.ZeroReturnError, SSL.SysCallError, SSL.Error) as error:
            raise DtlsFault(f"DTLS: {_reason(error)}") from error
        self.is_up = True

    @property
    def peer_certificate(self) -> x509.Certificate:
        """The certificate of the other side. Raises DtlsFault where it has shown none."""
        found = self._ssl.get_peer_certificate(as_cryptography=True)
        if found is None:
            raise DtlsFault("DTLS: no certificate")
        return found

    @property
    def peer_fingerprint(self) -> bytes:
        """Its SHA-256 as a multihash."""
        return fingerprint_of(self.peer_certificate)

    def receive(self, datagram: bytes) -> list[bytes]:
        """What a datagram says, if anything. Raises DtlsFault, DtlsClosed."""
        if not is_dtls(datagram):
            return []
        self._ssl.bio_write(datagram)
        if not self.is_up:
            self.proceed()
        return self._read() if self.is_up else []

    def _read(self) -> list[bytes]:
        said: list[bytes] = []
        try:
            while True:
                said.append(self._ssl.recv(_READ_BYTES))
        except SSL.WantReadError:
            return said
        except SSL.ZeroReturnError:
            if said:  # it comes again with the next
                return said
            raise DtlsClosed("closed by the peer") from None
        except (SSL.SysCallError, SSL.Error) as error:
            raise DtlsFault(f"DTLS: {_reason(error)}") from error

    def send(self, packet: bytes) -> None:
        """Encipher a packet of at most `packet_bytes`; `take` has it then. Raises DtlsFault."""
        try:
            self._ssl.send(packet)
        except SSL.Error as error:
            raise DtlsFault(f"DTLS: {_reason(error)}") from error

    @property
    def packet_bytes(self) -> int:
        """How much fits into a datagram."""
        return int(self._ssl.get_cleartext_mtu())

    def take(self) -> list[bytes]:
        """The datagrams to be sent."""
        out = b""
        try:
            while True:
                out += self._ssl.bio_read(_READ_BYTES)
        except SSL.WantReadError:
            return _datagrams(out, 1 if self.is_up else MTU)

    def timeout_s(self) -> float | None:
        """After how long `expire` has to be called, unless something comes."""
        return None if self.is_up else self._ssl.DTLSv1_get_timeout()

    def expire(self) -> None:
        """Say again what was not answered. Raises DtlsFault when that was often enough."""
        try:
            self._ssl.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise DtlsFault(f"DTLS: {_reason(error)}") from error

    def close(self) -> None:
        """Say goodbye."""
        if self.is_up:
            try:
                self._ssl.shutdown()
            except SSL.Error:
                return


class Greeter:
    """Answers the hello of whoever is not known yet, and remembers nothing of it until the address is proved.

    RFC 6347, section 4.2.1: the first hello is answered with a cookie that only its address can know, in fewer bytes
    than it had; the second brings it back.
    """

    def __init__(self, certificate: Certificate) -> None:
        self._secret = os.urandom(32)
        self._address = b""
        self._context = _context(certificate)
        self._context.set_cookie_generate_callback(lambda _: self._cookie())
        self._context.set_cookie_verify_callback(lambda _, cookie: hmac.compare_digest(cookie, self._cookie()))
        self._ear = self._new_ear()

    def hear(self, datagram: bytes, address: tuple[str, int]) -> tuple[list[bytes], Dtls | None]:
        """What to answer, and the connection that begins with a hello that brought the cookie of its address."""
        if not is_hello(datagram):
            return [], None
        self._address = repr(address).encode()
        ear = self._ear
        ear.bio_write(datagram)
        try:
            ear.DTLSv1_listen()
        except SSL.WantReadError:
            return Dtls(ear).take(), None
        except (SSL.Error, ValueError):
            self._ear = self._new_ear()  # who knows what is left in it
            return [], None
        self._ear = self._new_ear()
        return [], Dtls(ear)

    def _cookie(self) -> bytes:
        return hmac.new(self._secret, self._address, hashlib.sha256).digest()

    def _new_ear(self) -> SSL.Connection:
        ear = _connection(self._context)
        ear.set_accept_state()
        return ear


def is_dtls(datagram: bytes) -> bool:
    """Whether it can be DTLS; see RFC 7983."""
    return len(datagram) > _RECORD_HEADER and 20 <= datagram[0] <= 63


def is_hello(datagram: bytes) -> bool:
    """Whether it is a handshake record of epoch 0 that begins a ClientHello."""
    return len(datagram) > _RECORD_HEADER and datagram[0] == _HANDSHAKE and datagram[13] == _CLIENT_HELLO


def random_of(hello: bytes) -> bytes:
    """What the dialler made up for this connection; a hello that comes again has the same."""
    return hello[27:59]


def _context(certificate: Certificate) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.use_certificate(certificate.x509)
    context.use_privatekey(certificate.key)
    context.set_cipher_list(_CIPHERS)
    # Anybody's: who it is is proved by the digest in the address, and by Noise.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    return context


def _connection(context: SSL.Context) -> SSL.Connection:
    connection = SSL.Connection(context, None)
    connection.set_ciphertext_mtu(MTU)
    return connection


def _datagrams(records: bytes, size: int) -> list[bytes]:
    """OpenSSL writes record after record; none may be split between datagrams, which are ``size`` bytes or one record.

    Once the connection is up each has its own: libdatachannel reads one of a datagram, and is late by the others ever
    after.
    """
    datagrams: list[bytes] = []
    at = begin = 0
    while at + _RECORD_HEADER <= len(records):
        end = at + _RECORD_HEADER + int.from_bytes(records[at + 11 : at + 13], "big")
        if end - begin > size and at > begin:
            datagrams.append(records[begin:at])
            begin = at
        at = end
    return [*datagrams, records[begin:]] if records else []


def _reason(error: Exception) -> str:
    match error.args:
        case [[(_, _, str(reason)), *_]]:
            return reason
    return type(error).__name__
