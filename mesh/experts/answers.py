"""Signed answers: who says what, in reply to what, so that an answer can be held against its author."""

from hashlib import sha256

from mesh.identity import Identity, is_signed_by

_DOMAIN = b"mesh-answer/1"


def digest(text: str) -> str:
    """The SHA-256 of an answer's UTF-8 text, as hex."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
