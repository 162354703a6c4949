"""Facts about peers and connections. Their envelope's subject is the other peer's PeerId, where it is known."""

from typing import ClassVar

from mesh.events.envelope import Fact


class PeerDiscovered(Fact, frozen=True, kw_only=True):
    """Addresses of a peer became known.

    ``source`` is ``mdns``, ``static``, ``bootstrap``, ``store`` (this node's own journal), ``exchange`` (another peer
    told, with its offers) or ``dht``; ``by`` is the peer that told, where one did. What is told is a hint to dial.
    """

    type: ClassVar[str] = "peer.discovered"
    peer: str
    addresses: tuple[str, ...]
    source: str
    by: str = ""


class PeerDialFailed(Fact, frozen=True, kw_only=True):
    """An attempt to connect failed; the next comes after ``retry_in_s`` (0: none is planned)."""

    type: ClassVar[str] = "peer.dial_failed"
    peer: str
    addresses: tuple[str, ...]
    error: str
    attempt: int
    retry_in_s: float


class PeerConnected(Fact, frozen=True, kw_only=True):
    """A secured, multiplexed connection is up. ``direction`` is ``inbound`` or ``outbound``."""

    type: ClassVar[str] = "peer.connected"
    version: ClassVar[int] = 2
    peer: str
    connection: str
    address: str
    transport: str
    direction: str
    security: str
    muxer: str
    setup_ms: float


class PeerIdentified(Fact, frozen=True, kw_only=True):
    """What the peer said of itself in libp2p's identify."""

    type: ClassVar[str] = "peer.identified"
    peer: str
    agent: str
    protocols: tuple[str, ...]
    addresses: tuple[str, ...]


class PeerGreeted(Fact, frozen=True, kw_only=True):
    """The peer said hello: it is of our mesh. ``name`` and ``role`` are what it calls itself; nobody proved them."""

    type: ClassVar[str] = "peer.greeted"
    peer: str
    name: str
    role: str
    protocol_version: int


class PeerLeft(Fact, frozen=True, kw_only=True):
    """The peer said goodbye: it goes on purpose, and nobody has to look for it."""

    type: ClassVar[str] = "peer.left"
    peer: str
    reason: str


class PeerDisconnected(Fact, frozen=True, kw_only=True):
    """The last connection to the peer is gone; ``lasted_s`` is how long there was one."""

    type: ClassVar[str] = "peer.disconnected"
    peer: str
    connection: str
    reason: str
    lasted_s: float


class PeerRefused(Fact, frozen=True, kw_only=True):
    """A connection was not accepted: which rule, its limit, and the value that broke it."""

    type: ClassVar[str] = "peer.refused"
    peer: str
    address: str
    rule: str
    limit: str
    value: str


class PeerMisbehaved(Fact, frozen=True, kw_only=True):
    """The peer broke the protocol and was dropped."""

    type: ClassVar[str] = "peer.misbehaved"
    peer: str
    address: str
    rule: str
    detail: str


class PeerSuspected(Fact, frozen=True, kw_only=True):
    """Heartbeats are overdue: ``phi`` is the phi-accrual suspicion after ``silent_s`` of silence."""

    type: ClassVar[str] = "peer.suspected"
    peer: str
    phi: float
    silent_s: float


class PeerConfirmedDown(Fact, frozen=True, kw_only=True):
    """The peer is taken for dead until it is heard of again."""

    type: ClassVar[str] = "peer.confirmed_down"
    peer: str
    reason: str
    silent_s: float


class PeerRejoined(Fact, frozen=True, kw_only=True):
    """A peer that was suspected or down is heard of again."""

    type: ClassVar[str] = "peer.rejoined"
    peer: str
    away_s: float


class PeerPathChanged(Fact, frozen=True, kw_only=True):
    """The way to a connected peer is another: ``path`` is ``direct``, or ``relayed`` where only a relay joins us now.

    A connection whose ``transport`` is ``relay`` begins as relayed, every other as direct.
    """

    type: ClassVar[str] = "peer.path_changed"
    peer: str
    connection: str
    path: str
    address: str
    transport: str


class PeerHolePunched(Fact, frozen=True, kw_only=True):
    """An attempt to make a relayed connection direct is over: it is ``direct`` now, or ``error`` says why not."""

    type: ClassVar[str] = "peer.hole_punched"
    peer: str
    address: str
    attempts: int
    took_ms: float
    direct: bool
    error: str


class PeerRelayReserved(Fact, frozen=True, kw_only=True):
    """The relay ``peer`` keeps a place for us: others reach us at ``addresses``.

    It ends each circuit after ``circuit_s`` seconds and ``circuit_bytes`` bytes; 0: it did not say.
    """

    type: ClassVar[str] = "peer.relay_reserved"
    peer: str
    addresses: tuple[str, ...]
    holds_s: float
    circuit_s: float
    circuit_bytes: int


class PeerRelayLost(Fact, frozen=True, kw_only=True):
    """Nobody reaches us through the relay ``peer`` any more."""

    type: ClassVar[str] = "peer.relay_lost"
    peer: str
    reason: str


class NodeReachabilityChanged(Fact, frozen=True, kw_only=True):
    """What peers found that dialled us back: ``public`` (at ``addresses``), ``private`` or ``unknown``."""

    type: ClassVar[str] = "node.reachability_changed"
    reachability: str
    addresses: tuple[str, ...]
    askable: int


class NodePortMapped(Fact, frozen=True, kw_only=True):
    """The router at ``gateway`` passes on to us what comes to ``address``."""

    type: ClassVar[str] = "node.port_mapped"
    address: str
    gateway: str


FACTS = (
    PeerDiscovered,
    PeerDialFailed,
    PeerConnected,
    PeerIdentified,
    PeerGreeted,
    PeerLeft,
    PeerDisconnected,
    PeerRefused,
    PeerMisbehaved,
    PeerSuspected,
    PeerConfirmedDown,
    PeerRejoined,
    PeerPathChanged,
    PeerHolePunched,
    PeerRelayReserved,
    PeerRelayLost,
    NodeReachabilityChanged,
    NodePortMapped,
)
