"""Facts about the journal itself."""

from typing import ClassVar

from mesh.events.envelope import Fact


class JournalSealed(Fact, frozen=True, kw_only=True):
    """The node signs its history so far: ``link`` (hex) is the chain hash of ``position``.

    ``signature`` (hex, Ed25519) is over `mesh.events.audit.seal_bytes`, so that the chain cannot be made anew
    by somebody who lacks the node's key.
    """

    type: ClassVar[str] = "journal.sealed"
    sealed_position: int
    link: str
    signature: str


FACTS = (JournalSealed,)
