"""What a journal keeps of prompts and answers: the text, the text under a key that can be erased, or a digest. Pure."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import get_args

import msgspec

from mesh.config import ContentPolicy
from mesh.errors import MeshError

KEY_BYTES = 32
NONCE_BYTES = 24
# What is kept of one text; of a longer one its digest alone.
MAX_KEPT_BYTES = 128 * 1024
WITHHELD = "(withheld: it repeats what was asked, which this journal does not keep)"

_LABEL = b"mesh-content/1"
_STRICTNESS = {policy: place for place, policy in enumerate(get_args(ContentPolicy))}
_WINDOW = 8


class ContentUnreadable(MeshError):
    """A sealed text that its key does not open."""


def strictest(*policies: ContentPolicy) -> ContentPolicy:
    """The one that keeps least: ``digest`` before ``sealed`` before ``full``."""
    return max(policies, key=_STRICTNESS.__getitem__)


def fits(text: str) -> bool:
    """Whether a text is short enough to be kept."""
    return len(text) <= MAX_KEPT_BYTES and len(msgspec.json.encode(text)) <= MAX_KEPT_BYTES


def seal(text: str, key: bytes, nonce: bytes, *, request: str, part: str) -> str:
    """Base64 of nonce ‖ XChaCha20-Poly1305(text), bound to the request and to what of it the text is."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt  # where there is none, nothing is sealed

    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(text.encode(), _associated(request, part), nonce, key)
    return b64encode(nonce + sealed).decode()


def unseal(sealed: str, key: bytes, *, request: str, part: str) -> str:
    """The text. Raises ContentUnreadable for another key, another request or part, or a changed text."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
    from nacl.exceptions import CryptoError

    try:
        data = b64decode(sealed, validate=True)
        text = crypto_aead_xchacha20poly1305_ietf_decrypt(
            data[NONCE_BYTES:], _associated(request, part), data[:NONCE_BYTES], key
        )
        return text.decode()
    except (CryptoError, ValueError, TypeError) as error:
        raise ContentUnreadable(f"the sealed {part} of {request} does not open with this key") from error


def keyed_digest(text: str, key: bytes) -> str:
    """HMAC-SHA256: says that two readings are the same, and nothing to whoever guesses the text without the key."""
    return hmac.digest(key, _LABEL + b" digest\0" + text.encode(), hashlib.sha256).hex()


def _associated(request: str, part: str) -> bytes:
    return b"\0".join((_LABEL, request.encode(), part.encode()))


def repeats(message: str, *texts: str) -> bool:
    """Whether a message holds 15 characters or more in a row of one of the texts, or a whole shorter one of 8."""
    for text in texts:
        if _WINDOW <= len(text) < 2 * _WINDOW and text in message:
            return True
        pieces = (message[at : at + _WINDOW] for at in range(0, len(message) - _WINDOW + 1, _WINDOW))
        if any(_extends(message, piece, text) for piece in pieces if piece in text):
            return True
    return False


def _extends(message: str, piece: str, text: str) -> bool:
    """Whether a piece that both have is part of 15 characters that both have."""
    at = message.find(piece)
    least = 2 * _WINDOW - 1
    starts = range(max(0, at - _WINDOW + 1), min(at, len(message) - least) + 1)
    return any(message[start : start + least] in text for start in starts)
