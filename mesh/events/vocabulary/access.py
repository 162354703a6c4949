"""Facts about who may be connected to. Their envelope's subject is the PeerId that they are about, where it is one."""

from typing import ClassVar

import msgspec

from mesh.events.envelope import Fact


class PeerBlocked(Fact, frozen=True, kw_only=True):
    """Nobody of ``party`` (a PeerId, or a network in CIDR notation: ``kind`` is ``peer`` or ``network``) is let in."""

    type: ClassVar[str] = "peer.blocked"
    party: str
    kind: str
    actor: str
    reason: str


class PeerUnblocked(Fact, frozen=True, kw_only=True):
    """The block of ``party`` is lifted."""

    type: ClassVar[str] = "peer.unblocked"
    party: str
    kind: str
    actor: str
    reason: str


class PeerAllowed(Fact, frozen=True, kw_only=True):
    """``party`` is on the allow list; while there is anybody on it, nobody else is let in."""

    type: ClassVar[str] = "peer.allowed"
    party: str
    kind: str
    actor: str
    reason: str


class PeerDisallowed(Fact, frozen=True, kw_only=True):
    """``party`` is taken off the allow list."""

    type: ClassVar[str] = "peer.disallowed"
    party: str
    kind: str
    actor: str
    reason: str


class Trimmed(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that was given up: the score that it had (lower goes first), and the parts of the score."""

    peer: str
    score: float
    parts: dict[str, float]


class ConnectionsTrimmed(Fact, frozen=True, kw_only=True):
    """There were more ``connections`` than ``high_water``: the least useful ones are closed, down to ``low_water``.

    ``protected`` counts those that were not up for it, by reason. ``remaining`` is what is left; more than
    ``low_water`` where too many are protected.
    """

    type: ClassVar[str] = "peer.trimmed"
    connections: int
    high_water: int
    low_water: int
    remaining: int
    trimmed: tuple[Trimmed, ...]
    protected: dict[str, int]


FACTS = (PeerBlocked, PeerUnblocked, PeerAllowed, PeerDisallowed, ConnectionsTrimmed)
