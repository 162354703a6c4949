"""Who the peer is: Noise XX over data channel 0, bound to both certificates. The side that was dialled begins.

libp2p/specs, webrtc/webrtc-direct.md, "Connection Security", and noise/README.md. After it nothing goes through Noise:
DTLS protects the streams.
"""

from cryptography.exceptions import InvalidTag
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import X25519PublicKey, create_new_key_pair
from libp2p.peer.id import ID
from libp2p.security.noise.messages import (
    NoiseHandshakePayload,
    make_handshake_payload_sig,
    verify_handshake_payload_sig,
)
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseHandshakeError, NoiseInvalidMessage, NoiseValueError

_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
_PREFIX = b"libp2p-webrtc-noise:"
_MAX_MESSAGE_BYTES = 4096


class NoiseFault(ConnectionError):
    """What came is no handshake, or somebody else's."""


class Handshake:
    """Bytes in, bytes out, until ``peer_id`` says who it is."""

    def __init__(self, identity: KeyPair, *, dialler: bytes, listener: bytes, begins: bool) -> None:
        self._identity = identity
        self._static = create_new_key_pair()
        self._noise = NoiseConnection.from_name(_NAME)
        self._noise.set_keypair_from_private_bytes(Keypair.STATIC, self._static.private_key.to_bytes())
        self._noise.set_prologue(_PREFIX + dialler + listener)
        (self._noise.set_as_initiator if begins else self._noise.set_as_responder)()
        self._noise.start_handshake()
        self._state = self._noise.noise_protocol.handshake_state  # let go of at the end, with the peer's key in it
        self._begins = begins
        self._buffer = b""
        self.peer_id: ID | None = None

    def begin(self) -> bytes:
        """The first message."""
        return self._written(b"")

    def feed(self, data: bytes) -> bytes:
        """What came; what is to be answered. Raises NoiseFault."""
        self._buffer += data
        out = b""
        while len(self._buffer) >= 2 and self.peer_id is None:
            size = int.from_bytes(self._buffer[:2], "big")
            if size > _MAX_MESSAGE_BYTES:
                raise NoiseFault(f"a message of {size} bytes in the handshake")
            if len(self._buffer) < 2 + size:
                break
            message, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            out += self._message(message)
        return out

    def _message(self, message: bytes) -> bytes:
        try:
            said = bytes(self._noise.read_message(message))
        except (NoiseHandshakeError, NoiseInvalidMessage, NoiseValueError, InvalidTag, ValueError) as error:
            raise NoiseFault(f"Noise: {str(error) or type(error).__name__}") from error
        if self._noise.handshake_finished:  # the third, at the side that was begun with
            self.peer_id = self._proved(said)
            return b""
        if not self._begins:
            return self._written(self._payload())
        self.peer_id = self._proved(said)
        return self._written(self._payload())

    def _payload(self) -> bytes:
        signature = make_handshake_payload_sig(self._identity.private_key, self._static.public_key)
        return NoiseHandshakePayload(self._identity.public_key, signature).serialize()

    def _written(self, payload: bytes) -> bytes:
        message = bytes(self._noise.write_message(payload))
        return len(message).to_bytes(2, "big") + message

    def _proved(self, said: bytes) -> ID:
        try:
            payload = NoiseHandshakePayload.deserialize(said)
        except ValueError as error:
            raise NoiseFault(f"Noise: {error}") from error
        if not verify_handshake_payload_sig(payload, X25519PublicKey.from_bytes(self._state.rs.public_bytes)):
            raise NoiseFault("Noise: the signature is not that of the identity")
        return ID.from_pubkey(payload.id_pubkey)
