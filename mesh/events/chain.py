"""The hash chain that makes history show tampering.

``link(n) = SHA-256(link(n-1) ‖ uint64be(n) ‖ payload(n))`` and ``link(0) = SHA-256("mesh-journal/1:" ‖ PeerId)``,
so that a changed, removed, inserted or reordered event, or another node's store, does not fit.
"""

from hashlib import sha256

HASH_BYTES = 32


def genesis(owner: str) -> bytes:
    """The link before the first event of the journal that belongs to the node ``owner``."""
    return sha256(b"mesh-journal/1:" + owner.encode()).digest()


def link(prev: bytes, position: int, payload: bytes) -> bytes:
    """The link of the event at ``position``, given the link of the event before it."""
    return sha256(prev + position.to_bytes(8, "big") + payload).digest()
