"""Facts about experts, this node's and other nodes'. Their envelope's subject is the offering peer's PeerId."""

from typing import ClassVar

import msgspec

from mesh.events.envelope import Fact


class ExpertRegistered(Fact, frozen=True, kw_only=True):
    """This node serves an expert. ``concurrency`` requests run at once, ``queue_limit`` more may wait.

    ``features`` are what it can do besides answering a text: ``chat``, ``tools``, ``embeddings``;
    ``price`` what a thousand tokens of its answers cost, in whatever unit the mesh agreed on; ``quality`` in 0..1 the
    operator's own weight.
    """

    type: ClassVar[str] = "expert.registered"
    expert: str
    backend: str
    model: str
    domains: tuple[str, ...]
    concurrency: int
    queue_limit: int
    features: tuple[str, ...] = ()
    price: float = 0.0
    quality: float = 0.5


class ExpertDeregistered(Fact, frozen=True, kw_only=True):
    """This node no longer serves the expert."""

    type: ClassVar[str] = "expert.deregistered"
    expert: str
    reason: str


class ExpertOffered(Fact, frozen=True, kw_only=True):
    """A peer (or this node) advertises an expert and its load at that moment.

    ``quality`` in 0..1 is the operator's own weight; ``valid_s`` is how long the offer may be believed.
    """

    type: ClassVar[str] = "expert.offered"
    peer: str
    expert: str
    model: str
    domains: tuple[str, ...]
    concurrency: int
    queue_limit: int
    in_flight: int
    queued: int
    available: bool
    quality: float
    valid_s: float
    features: tuple[str, ...] = ()
    price: float = 0.0


class ExpertExpired(Fact, frozen=True, kw_only=True):
    """An offer holds no longer: ``reason`` is ``withdrawn`` where the peer took it back itself."""

    type: ClassVar[str] = "expert.expired"
    peer: str
    expert: str
    reason: str


class ExpertLimited(Fact, frozen=True, kw_only=True):
    """How many calls this node's expert runs at once has changed since it was last recorded, and the last reason.

    ``work_ms`` is what calls took lately, ``baseline_ms`` what they take where little is asked; -1: not known.
    """

    type: ClassVar[str] = "expert.limited"
    expert: str
    limit: int
    before: int
    concurrency: int
    reason: str
    work_ms: float
    baseline_ms: float


class SignedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer put its name to, besides the request and the expert. ``signature`` is hex."""

    model: str
    answer_digest: str
    signature: str


class ExpertEquivocated(Fact, frozen=True, kw_only=True):
    """An expert signed two different answers to one request.

    Both signatures are the peer's over the same ``request``, so anybody can check the proof
    (`mesh.experts.equivocation.proves`).
    """

    type: ClassVar[str] = "expert.equivocated"
    peer: str
    expert: str
    request: str
    first: SignedAnswer
    second: SignedAnswer


class ExpertsSought(Fact, frozen=True, kw_only=True):
    """Nobody known served a domain that was asked for, and the DHT was asked.

    ``providers`` is how many it named, ``dialled`` how many of them were new and dialled, ``served`` whether somebody
    offers the domain now.
    """

    type: ClassVar[str] = "expert.sought"
    domain: str
    providers: int
    dialled: int
    served: bool
    took_ms: float


class ExpertEjected(Fact, frozen=True, kw_only=True):
    """This node leaves an expert alone for ``for_s`` seconds, the ``times``-th time in a row.

    ``rule`` is ``breaker_open`` (failures in a row) or ``ejected`` (worse than the others), ``detail`` what was seen.
    Judging again from the journal up to ``as_of`` gives the same (`mesh.experts.ejection`).
    """

    type: ClassVar[str] = "expert.ejected"
    peer: str
    expert: str
    rule: str
    detail: str
    for_s: float
    times: int
    as_of: int


class ExpertReadmitted(Fact, frozen=True, kw_only=True):
    """An expert that was ejected by ``rule`` answered a probe, and is asked again, little by little."""

    type: ClassVar[str] = "expert.readmitted"
    peer: str
    expert: str
    rule: str
    as_of: int


FACTS = (
    ExpertRegistered,
    ExpertDeregistered,
    ExpertOffered,
    ExpertExpired,
    ExpertLimited,
    ExpertsSought,
    ExpertEquivocated,
    ExpertEjected,
    ExpertReadmitted,
)
