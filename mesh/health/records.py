"""What health remembers of the node, its peers, their experts and the open alerts. Times are Unix seconds."""

from typing import Literal

import msgspec

from mesh.events.live_state import LiveStruct
from mesh.events.vocabulary.health import NodeSampled, PeerSampled

Phase = Literal["pending", "raised", "acknowledged"]

# After the node has started, a peer or domain of before is not missed for this long: it may still come back.
START_GRACE_S = 30.0
# A connection counts once it has lasted this long: who is turned away, for its mesh's name or else, had one as well.
COUNTS_AFTER_S = 2.0
# What has been gone for this long is no longer watched.
FORGET_AFTER_S = 7 * 86400.0
# How often that is looked at.
FORGET_EVERY_S = 3600.0
# Strangers can make up identities and experts; these bound what they can make us remember.
MAX_PEERS = 2000
MAX_EXPERTS_PER_PEER = 64
MAX_RESOLVED = 200


class Standing(msgspec.Struct, frozen=True):
    """The status of a target as last decided; ``status`` is empty until the first decision."""

    status: str = ""
    score: float = -1.0
    since: float = 0.0
    factors: dict[str, float] = {}


class Outcomes(msgspec.Struct):
    """What became of the requests sent to a peer since it was last sampled."""

    answered: int = 0
    failed: int = 0
    latency_ms: float = 0.0


class NodeHealth(msgspec.Struct):
    """This node: its last samples with their times, oldest first."""

    samples: list[tuple[float, NodeSampled]] = []
    standing: Standing = Standing()


class PeerHealth(msgspec.Struct):
    """A peer that was connected at least once. ``gone_since`` is 0 while it is there; ``left``: it said goodbye.

    ``gone_before`` and ``left_before`` are the same of before the present connection: one that ends before it counts
    changes neither. ``acquainted``: one has counted, so that losing the peer is worth an alert.
    """

    samples: list[tuple[float, PeerSampled]] = []
    standing: Standing = Standing()
    outcomes: Outcomes = msgspec.field(default_factory=Outcomes)
    connected: bool = False
    connected_since: float = 0.0
    gone_since: float = 0.0
    gone_why: str = ""
    suspected: bool = False
    down: bool = False
    acquainted: bool = False
    left: bool = False
    gone_before: float = 0.0
    left_before: bool = False


class Offer(msgspec.Struct, frozen=True):
    """An expert as last advertised. ``valid_s`` 0: it does not expire; ``expired_at`` is 0 while it is offered."""

    domains: tuple[str, ...]
    available: bool
    at: float
    valid_s: float = 0.0
    expired_at: float = 0.0
    why: str = ""


class Alert(msgspec.Struct, frozen=True):
    """An alert that is not resolved. ``episode`` is the id of the event that began it; ``raised_at`` 0: not yet."""

    rule: str
    target: str
    phase: Phase
    severity: str
    summary: str
    episode: str
    pending_at: float
    raised_at: float = 0.0
    actor: str = ""


class Watched(LiveStruct, msgspec.Struct):
    """All of it: this node ``node``, and the last ``window`` samples of each target."""

    node: str
    window: int = 20
    position: int = 0
    started_at: float = 0.0
    forgot_at: float = 0.0
    own: NodeHealth = msgspec.field(default_factory=NodeHealth)
    peers: dict[str, PeerHealth] = {}
    experts: dict[str, dict[str, Offer]] = {}
    alerts: dict[str, Alert] = {}
    resolved: dict[str, float] = {}
