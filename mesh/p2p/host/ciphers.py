"""What a handshake left behind, as a pair of functions: bytes to be sent are sealed, bytes that came are opened.

Neither waits for anything, so that what is sealed is always sent: a message of Noise that is left out is one that the
other side can read nothing after.
"""

from typing import Protocol

from libp2p.abc import ISecureConn
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from noise.connection import NoiseConnection
from noise.exceptions import NoiseInvalidMessage

from mesh.p2p.host.tls import TlsStream

_LENGTH_BYTES = 2
# One read can bring thousands of messages, each with next to nothing in it.
_MESSAGES_AT_ONCE = 64


class CipherFault(ConnectionError):
    """What came was not sealed by the other side."""


class Cipher(Protocol):
    """Both directions of a secured connection.

    ``begun`` is what was opened already and nobody has taken. ``ended``: the other side has said that nothing follows.
    ``behind``: there may be more to open of what has come, after a turn for others.
    """

    begun: bytes

    @property
    def behind(self) -> bool:
        """See above."""
        ...

    @property
    def ended(self) -> bool:
        """See above."""
        ...

    def seal(self, data: bytes) -> bytes:
        """What is to be sent for ``data``."""
        ...

    def open(self, data: bytes) -> bytes:
        """What can be read of what has come by now. Raises CipherFault."""
        ...

    def reply(self) -> bytes:
        """What the protocol itself answers to what was opened."""
        ...


class NoiseCipher:
    """See `Cipher`. libp2p's framing: each message has its length before it, in two bytes."""

    ended = False

    def __init__(self, noise: NoiseConnection, begun: bytes = b"") -> None:
        self.begun = begun
        self._encrypt = noise.encrypt
        self._decrypt = noise.decrypt
        self._buffer = b""
        self.behind = False

    def seal(self, data: bytes) -> bytes:
        """See Cipher."""
        if len(data) <= MAX_PLAINTEXT_LENGTH:
            return self._message(data)
        starts = range(0, len(data), MAX_PLAINTEXT_LENGTH)
        return b"".join(self._message(data[start : start + MAX_PLAINTEXT_LENGTH]) for start in starts)

    def _message(self, data: bytes) -> bytes:
        message: bytes = self._encrypt(data)
        return len(message).to_bytes(_LENGTH_BYTES, "big") + message

    def open(self, data: bytes) -> bytes:
        """See Cipher."""
        if self._buffer:
            data = self._buffer + data
        parts: list[bytes] = []
        at = 0
        while (begin := at + _LENGTH_BYTES) <= len(data) and len(parts) < _MESSAGES_AT_ONCE:
            end = begin + int.from_bytes(data[at:begin], "big")
            if end > len(data):
                break
            parts.append(self._opened(data[begin:end]))
            at = end
        self._buffer = data[at:]
        self.behind = len(parts) == _MESSAGES_AT_ONCE
        return b"".join(parts)

    def _opened(self, message: bytes) -> bytes:
        try:
            plain: bytes = self._decrypt(message)
        except NoiseInvalidMessage as error:
            raise CipherFault("noise: a message that cannot be deciphered") from error
        return plain

    def reply(self) -> bytes:
        """See Cipher: nothing, ever."""
        return b""


class TlsCipher:
    """See `Cipher`."""

    def __init__(self, tls: TlsStream, begun: bytes = b"") -> None:
        self._tls = tls
        self.begun = begun + self.open(b"")

    @property
    def ended(self) -> bool:
        """See Cipher."""
        return self._tls.ended

    @property
    def behind(self) -> bool:
        """See Cipher."""
        return self._tls.behind

    def seal(self, data: bytes) -> bytes:
        """See Cipher."""
        return self._tls.seal(data)

    def open(self, data: bytes) -> bytes:
        """See Cipher."""
        try:
            return self._tls.open(data)
        except ConnectionClosedError as error:
            raise CipherFault(str(error)) from error

    def reply(self) -> bytes:
        """See Cipher: to a change of keys."""
        return self._tls.outgoing()


def cipher_of(secured: ISecureConn) -> Cipher:
    """That of a connection whose handshake is over, and which nobody reads from or writes to any more."""
    assert isinstance(secured, SecureSession)
    begun = bytes(secured.buf.getbuffer()[secured.low_watermark : secured.high_watermark])
    if isinstance(secured.conn, TlsStream):
        return TlsCipher(secured.conn, begun)
    assert isinstance(secured.conn, NoiseTransportReadWriter)
    return NoiseCipher(secured.conn.noise_state, begun)
