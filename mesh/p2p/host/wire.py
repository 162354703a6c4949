"""What the node and its overlay process say to each other over the local control connection: JSON, one message a line.

Commands go to the overlay process, notices come back, each in order. A command's ``id`` is echoed by the `Done`
or `Failed` that answers it. libp2p streams do not travel here: each has a local connection of its own, whose first
line is a `Hello`.
"""

import msgspec

from mesh.p2p.access import Access
from mesh.p2p.overlay import (
    Connected,
    Disconnected,
    HolePunched,
    Identified,
    Misbehaved,
    OverlayFact,
    PathChanged,
    PortMapped,
    Provider,
    ReachabilityChanged,
    Refused,
    RelayLost,
    RelayReserved,
)

MAX_LINE_BYTES = 4 << 20


class Hello(msgspec.Struct, frozen=True):
    """First line of every local connection. ``stream`` 0 is the control connection."""

    token: str
    stream: int


class Dial(msgspec.Struct, frozen=True, tag=True):
    """Connect to ``peer`` at one of ``addresses`` within ``timeout_s``."""

    id: int
    peer: str
    addresses: tuple[str, ...]
    timeout_s: float


class Disconnect(msgspec.Struct, frozen=True, tag=True):
    """Close every connection to ``peer``."""

    id: int
    peer: str
    reason: str


class Restrict(msgspec.Struct, frozen=True, tag=True):
    """Connect only to whom ``access`` admits; whoever else is connected is cut off before this is answered."""

    id: int
    access: Access


class OpenStream(msgspec.Struct, frozen=True, tag=True):
    """Open a stream to ``peer``; its local connection is announced by `StreamOpened`."""

    id: int
    peer: str
    protocol: str


class Publish(msgspec.Struct, frozen=True, tag=True):
    """Gossip ``data``."""

    id: int
    topic: str
    data: bytes


class AreYouThere(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Here` soon, while the overlay process is well."""

    id: int


class Provide(msgspec.Struct, frozen=True, tag=True):
    """Be found by these names, and by no others any more."""

    id: int
    names: tuple[str, ...]


class FindProviders(msgspec.Struct, frozen=True, tag=True):
    """Ask the DHT; answered by `Found`."""

    id: int
    name: str
    timeout_s: float


class CloseStream(msgspec.Struct, frozen=True, tag=True):
    """The node let go of a stream, both ways."""

    stream: int


# What is answered.
Question = Dial | Disconnect | Restrict | OpenStream | Publish | AreYouThere | Provide | FindProviders
Command = Question | CloseStream


class Listening(msgspec.Struct, frozen=True, tag=True):
    """The process serves at these multiaddrs (without ``/p2p/…``)."""

    addresses: tuple[str, ...]


class Here(msgspec.Struct, frozen=True, tag=True):
    """The process lives, and has not read yet what has come from ``unread``."""

    id: int
    unread: tuple[str, ...]


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """An address cannot be listened on; the process ends."""

    what: str
    remedy: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The command ``id`` succeeded."""

    id: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The command ``id`` failed."""

    id: int
    what: str
    remedy: str = ""


class StreamOpened(msgspec.Struct, frozen=True, tag=True):
    """A libp2p stream is open; its local connection says Hello with ``stream``. ``id`` 0: the peer opened it."""

    id: int
    stream: int
    peer: str
    protocol: str


class Found(msgspec.Struct, frozen=True, tag=True):
    """What the DHT says to the command ``id``."""

    id: int
    providers: tuple[Provider, ...]


class Gossip(msgspec.Struct, frozen=True, tag=True):
    """A message of a topic, its signature checked."""

    topic: str
    peer: str
    data: bytes


class Happened(msgspec.Struct, frozen=True, tag=True):
    """An overlay fact: ``fact`` is the JSON of the class that ``kind`` names."""

    kind: str
    fact: msgspec.Raw


Notice = Listening | StartFailed | Here | Done | Failed | StreamOpened | Found | Gossip | Happened

_FACTS: dict[str, type[OverlayFact]] = {
    fact.__name__: fact
    for fact in (
        Connected,
        Identified,
        Disconnected,
        PathChanged,
        HolePunched,
        RelayReserved,
        RelayLost,
        ReachabilityChanged,
        PortMapped,
        Refused,
        Misbehaved,
    )
}
_encode = msgspec.json.Encoder().encode
_decode_facts = {kind: msgspec.json.Decoder(fact).decode for kind, fact in _FACTS.items()}
decode_hello = msgspec.json.Decoder(Hello).decode
decode_command = msgspec.json.Decoder(Command).decode
decode_notice = msgspec.json.Decoder(Notice).decode


def line(message: Hello | Command | Notice) -> bytes:
    """A message as it travels."""
    return _encode(message) + b"\n"


def happened(fact: OverlayFact) -> Happened:
    """A fact as a notice."""
    return Happened(type(fact).__name__, msgspec.Raw(_encode(fact)))


def fact_of(notice: Happened) -> OverlayFact:
    """The inverse of `happened`; raises ValueError for a kind that is none."""
    if notice.kind not in _decode_facts:
        raise ValueError(f"{notice.kind!r} is not an overlay fact")
    return _decode_facts[notice.kind](notice.fact)
