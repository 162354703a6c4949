"""The feed of a node: those of its events that others should know, in signed batches that anybody may carry.

A feed is a subsequence of a journal with a sequence of its own, 1, 2, 3 … without gaps, and a hash chain of its own:
``link(n) = SHA-256(link(n-1) ‖ uint64be(n) ‖ payload(n))`` as in `mesh.events.chain`, from
``link(0) = SHA-256("mesh-feed/1:" ‖ PeerId ‖ ":" ‖ uint64be(epoch))``. Each batch states where the chain was before it
and where it is after it, and the origin signs that. So a gap shows, an omission cannot be hidden, and the origin's
signature is worth the same whoever carries the batch. Pure.
"""

from collections.abc import Iterable
from hashlib import sha256

from msgspec.structs import replace

from mesh.events.chain import HASH_BYTES, link
from mesh.events.vocabulary.journal import SignedBatch
from mesh.identity import Identity, is_signed_by

# What a node signs stays within these: an honest batch is never larger.
MAX_BATCH_EVENTS = 256
MAX_EVENT_BYTES = 32 * 1024
MAX_BATCH_BYTES = 256 * 1024
# Sequences and epochs fit into a JSON number that every language reads exactly.
MAX_NUMBER = (1 << 53) - 1
_SIGNATURE_BYTES = 64


def feed_genesis(origin: str, epoch: int) -> bytes:
    """The link before the first event of the feed that ``origin`` began at ``epoch``."""
    return sha256(b"mesh-feed/1:" + origin.encode() + b":" + epoch.to_bytes(8, "big")).digest()


def extended(prev: bytes, first: int, payloads: Iterable[bytes]) -> bytes:
    """The link after ``payloads``, the first of which has the feed sequence ``first``."""
    for number, payload in enumerate(payloads, first):
        prev = link(prev, number, payload)
    return prev


def batch_bytes(batch: SignedBatch) -> bytes:
    """What the origin signs. Raises ValueError when a link is not 32 bytes of hex, or a number is none."""
    links = bytes.fromhex(batch.prev), bytes.fromhex(batch.link)
    if any(len(each) != HASH_BYTES for each in links):
        raise ValueError("a link has 32 bytes")
    numbers = (batch.epoch, batch.first, batch.last, batch.origin_seq)
    if not all(0 <= number <= MAX_NUMBER for number in numbers):
        raise ValueError("a number is out of range")
    packed = b"".join(number.to_bytes(8, "big") for number in numbers)
    return b"mesh-batch/1:" + batch.origin.encode() + b":" + packed + links[0] + links[1]


def sign_batch(
    identity: Identity, *, epoch: int, first: int, origin_seq: int, prev: bytes, payloads: list[bytes]
) -> SignedBatch:
    """The batch of ``payloads``, signed; ``origin_seq`` is that of the last of them."""
    batch = SignedBatch(
        origin=identity.peer_id,
        epoch=epoch,
        first=first,
        last=first + len(payloads) - 1,
        origin_seq=origin_seq,
        prev=prev.hex(),
        link=extended(prev, first, payloads).hex(),
        signature="",
    )
    return replace(batch, signature=identity.sign(batch_bytes(batch)).hex())


def is_signed(batch: SignedBatch) -> bool:
    """Whether the origin signed it, in whole."""
    try:
        signature, message = bytes.fromhex(batch.signature), batch_bytes(batch)
    except ValueError:
        return False
    return len(signature) == _SIGNATURE_BYTES and is_signed_by(batch.origin, message, signature)


def holds(batch: SignedBatch, payloads: list[bytes]) -> bool:
    """Whether ``payloads`` are exactly those that the batch was signed for; its form is known to be good."""
    if len(payloads) != batch.last - batch.first + 1:
        return False
    return extended(bytes.fromhex(batch.prev), batch.first, payloads).hex() == batch.link


def same(one: SignedBatch, other: SignedBatch) -> bool:
    """Whether the two state the same."""
    return batch_bytes(one) == batch_bytes(other)


def contradict(one: SignedBatch, other: SignedBatch) -> bool:
    """Whether an honest origin cannot have signed both.

    It signs each sequence in one batch only, and a batch goes on from where the one before it ended.
    """
    if (one.origin, one.epoch) != (other.origin, other.epoch) or same(one, other):
        return False
    if one.first <= other.last and other.first <= one.last:
        return True
    before, after = (one, other) if one.last < other.first else (other, one)
    return before.last + 1 == after.first and before.link != after.prev
