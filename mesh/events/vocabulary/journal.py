"""Facts about the journal itself."""

from typing import ClassVar

import msgspec

from mesh.events.envelope import Fact


class SignedBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a node signs of a stretch of its feed (`mesh.events.feed`): sequences ``first`` to ``last``, both included.

    ``epoch`` is when the feed began (Unix seconds): a node whose journal was lost begins a new one. ``origin_seq`` is
    that of the last event. ``prev`` and ``link`` (hex) are the feed's chain before and after it; ``signature`` (hex,
    Ed25519) is the origin's, over `mesh.events.feed.batch_bytes`.
    """

    origin: str
    epoch: int
    first: int
    last: int
    origin_seq: int
    prev: str
    link: str
    signature: str


class JournalSealed(Fact, frozen=True, kw_only=True):
    """The node signs its history so far: ``link`` (hex) is the chain hash of ``position``.

    ``signature`` (hex, Ed25519) is over `mesh.events.audit.seal_bytes`, so that the chain cannot be made anew
    by somebody who lacks the node's key.
    """

    type: ClassVar[str] = "journal.sealed"
    sealed_position: int
    link: str
    signature: str


class JournalShared(Fact, frozen=True, kw_only=True):
    """This node signed the events at ``positions`` of its own journal, for other nodes to have."""

    type: ClassVar[str] = "journal.shared"
    batch: SignedBatch
    positions: tuple[int, ...]


class JournalReceived(Fact, frozen=True, kw_only=True):
    """A batch of another node follows in this journal, byte for byte, brought by ``carrier``.

    ``held`` of its events were here already; ``size`` is the bytes of those that follow. Where ``batch.first`` does
    not go on from the batch before, what lies between was not taken.
    """

    type: ClassVar[str] = "journal.received"
    batch: SignedBatch
    carrier: str
    held: int
    size: int


class EquivocationFound(Fact, frozen=True, kw_only=True):
    """A node signed two things that cannot both be true of one journal: the proof, which needs nothing else.

    ``carrier`` brought ``other``, which contradicts ``one``. Nothing is taken of ``peer`` any more.
    """

    type: ClassVar[str] = "journal.equivocation_found"
    peer: str
    carrier: str
    one: SignedBatch
    other: SignedBatch
    detail: str


FACTS = (JournalSealed, JournalShared, JournalReceived, EquivocationFound)
