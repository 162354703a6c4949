"""What routing knows of peers, of what they serve, and of requests without an outcome."""

import msgspec

from mesh.experts.links import Link


class Target(msgspec.Struct, frozen=True, order=True):
    """An expert on a peer."""

    peer: str
    expert: str

    def __str__(self) -> str:
        return f"{self.peer}/{self.expert}"


class Peer(msgspec.Struct):
    """A node. ``liveness`` is ``alive``, ``suspected`` or ``down``; ``status`` is its health, empty: not rated yet.

    ``back_at`` (Unix seconds) is when it was last heard of again after a silence; 0: never.
    """

    connected: bool = False
    liveness: str = "alive"
    status: str = ""
    position: int = 0
    back_at: float = 0.0
    link: Link = msgspec.field(default_factory=Link)


class Offer(msgspec.Struct):
    """What a peer, or this node, serves, and its load when it said so.

    ``ours`` is how many of our own requests were with it then. ``expires_at`` (Unix seconds) of 0: until withdrawn.
    ``since`` when it began to be offered, without a break.
    """

    model: str
    domains: tuple[str, ...]
    concurrency: int
    queue_limit: int
    in_flight: int = 0
    queued: int = 0
    ours: int = 0
    available: bool = True
    quality: float = 0.5
    features: tuple[str, ...] = ()
    offered_at: float = 0.0
    expires_at: float = 0.0
    price: float = 0.0
    since: float = 0.0


class Withdrawn(msgspec.Struct):
    """What an expert was offered for until its peer withdrew it, ``at`` (Unix seconds). Others may offer it still."""

    expert: str
    domains: tuple[str, ...]
    at: float


class OpenRequest(msgspec.Struct):
    """A request without an outcome yet: ``attempts`` are those dispatched and not yet back, by number.

    ``late`` are the numbers of those that were hedged.
    """

    position: int
    last_position: int
    attempts: dict[str, Target] = {}
    late: list[int] = []
