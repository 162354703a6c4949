"""Signed answers: who says what, in reply to what, so that an answer can be held against its author."""

from hashlib import sha256
from typing import Protocol

from mesh.experts.calls import AttemptFailed, Passed
from mesh.identity import Identity, is_signed_by

_DOMAIN = b"mesh-answer/1"


def digest(text: str) -> str:
    """The SHA-256 of an answer's UTF-8 text, as hex."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Said(Protocol):
    """An answer whose text is here, or went by."""

    @property
    def text(self) -> str:
        """Empty where it went by."""
        ...

    @property
    def passed(self) -> Passed | None:
        """What is known of a text that went by."""
        ...


class Tally:
    """The digest and the size of a text that goes by in pieces."""

    def __init__(self) -> None:
        self._hash = sha256()
        self.size = 0

    def add(self, data: bytes) -> None:
        """One more piece, as UTF-8; it may be cut anywhere."""
        self._hash.update(data)
        self.size += len(data)

    @property
    def passed(self) -> Passed:
        """All of them so far."""
        return Passed(self._hash.hexdigest(), self.size)


def tally(answer: Said) -> Passed:
    """The digest and the size of an answer's text, also of one that went by. Raises AttemptFailed as `utf8`."""
    if answer.passed is not None:
        return answer.passed
    data = utf8(answer.text)
    return Passed(sha256(data).hexdigest(), len(data))


def utf8(text: str) -> bytes:
    """What an expert said, as it travels. Raises AttemptFailed for what is not Unicode."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise AttemptFailed("failed", f"the answer is not Unicode text: {error.reason}") from None


def signed_bytes(request: str, expert: str, model: str, digest: str) -> bytes:
    """What is signed: a domain and each field behind its length (4 bytes, big endian), so that none can run over."""
    fields = (request, expert, model, digest)
    parts = [_DOMAIN, *(field.encode("utf-8", "surrogatepass") for field in fields)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign_answer(identity: Identity, *, request: str, expert: str, model: str, digest: str) -> str:
    """The serving node's Ed25519 signature over `signed_bytes`, as hex."""
    return identity.sign(signed_bytes(request, expert, model, digest)).hex()


def verify_answer(peer_id: str, signature: str, *, request: str, expert: str, model: str, digest: str) -> bool:
    """Whether ``signature`` (hex) is that of ``peer_id`` over just this answer; malformed ones are not."""
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        return False
    return is_signed_by(peer_id, signed_bytes(request, expert, model, digest), raw)
