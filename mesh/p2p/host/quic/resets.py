"""Stateless resets (RFC 9000, section 10.3): who lost a connection, to a crash say, tells who still believes in it."""

import hashlib
import hmac
import os

TOKEN_BYTES = 16
# Nothing shorter can be a packet that we would answer, nor an answer.
_MIN_BYTES = 5 + TOKEN_BYTES
_FIXED_BIT = 0x40


class Resets:
    """The tokens of one socket: they follow from the node's seed, so that they outlive the process."""

    def __init__(self, seed: bytes, address: str) -> None:
        self._key = hashlib.sha256(b"synaptic-mesh stateless reset " + seed + address.encode()).digest()

    def token(self, connection_id: bytes) -> bytes:
        """What proves that a reset comes from who gave out ``connection_id``."""
        return hmac.digest(self._key, connection_id, "sha256")[:TOKEN_BYTES]

    def answer(self, connection_id: bytes, received: int) -> bytes | None:
        """The reset for a packet of ``received`` bytes; shorter than it, lest two answer each other for ever."""
        size = min(received - 1, 2 * _MIN_BYTES)
        if size < _MIN_BYTES:
            return None
        noise = bytearray(os.urandom(size - TOKEN_BYTES))
        noise[0] = noise[0] & 0x3F | _FIXED_BIT
        return bytes(noise) + self.token(connection_id)
