"""Offers as they go between peers: what ``expert.offers`` answers and what is gossiped, one JSON message. Pure."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from mesh.errors import PeerMisbehaved
from mesh.events.vocabulary.experts import ExpertOffered
from mesh.experts.queries import Feature
from mesh.experts.wire import Domain, Expert, FromPeer, Model, explain, fit_model
from mesh.p2p.addresses import MAX_ADDRESS_CHARS

OFFERS = "expert.offers"
MAX_OFFERS = 64
MAX_OFFERS_BYTES = 32 * 1024
MAX_VALID_S = 86_400.0
MAX_INTRODUCED = 16
MAX_ADDRESSES = 8
_NOBODY: Mapping[str, tuple[str, ...]] = {}

Count = Annotated[int, Field(ge=0, le=1_000_000)]


class OfferEntry(FromPeer):
    """One expert that the peer serves, and its load."""

    expert: Expert
    model: Model = ""
    domains: Annotated[tuple[Domain, ...], Field(min_length=1, max_length=16, strict=False)]
    concurrency: int = Field(ge=1, le=1_000_000)
    queue_limit: Count = 0
    in_flight: Count = 0
    queued: Count = 0
    available: bool = True
    quality: float = Field(default=0.5, ge=0, le=1)
    features: Annotated[tuple[Feature, ...], Field(default=(), max_length=8, strict=False)]
    price: float = Field(default=0.0, ge=0, le=1e9)


def _distinct(offers: tuple[OfferEntry, ...]) -> tuple[OfferEntry, ...]:
    names = [offer.expert for offer in offers]
    if len(set(names)) != len(names):
        raise ValueError("two offers have the same expert")
    return offers


class IntroducedPeer(FromPeer):
    """Another node of the mesh that the peer is connected to, and where it may be reached: a hint, no more."""

    peer: str = Field(max_length=128)
    addresses: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_ADDRESS_CHARS)], ...], Field(max_length=MAX_ADDRESSES, strict=False)
    ]


class OffersMessage(FromPeer):
    """What a peer gossips, and answers to ``expert.offers``: all that it serves. ``peer`` is the peer itself.

    ``peers`` come with the answer alone: whom it knows.
    """

    version: int = Field(default=1, ge=1)
    peer: str = Field(max_length=128)
    valid_s: float = Field(gt=0, le=MAX_VALID_S)
    offers: Annotated[tuple[OfferEntry, ...], Field(max_length=MAX_OFFERS, strict=False), AfterValidator(_distinct)]
    peers: Annotated[tuple[IntroducedPeer, ...], Field(max_length=MAX_INTRODUCED, strict=False)] = ()


def encode_offers(
    peer: str, offers: list[ExpertOffered], valid_s: float, known: Mapping[str, tuple[str, ...]] = _NOBODY
) -> bytes:
    """All that ``peer`` serves, and whom it knows, for the others; where that is over a limit, the first ones."""
    peers = tuple(
        IntroducedPeer(peer=other, addresses=addresses[:MAX_ADDRESSES])
        for other, addresses in list(known.items())[:MAX_INTRODUCED]
    )
    entries = tuple(
        OfferEntry(
            expert=offer.expert,
            model=fit_model(offer.model),
            domains=offer.domains,
            concurrency=offer.concurrency,
            queue_limit=offer.queue_limit,
            in_flight=offer.in_flight,
            queued=offer.queued,
            available=offer.available,
            quality=offer.quality,
            features=offer.features,
            price=offer.price,
        )
        for offer in offers[:MAX_OFFERS]
    )
    while True:
        message = OffersMessage(peer=peer, valid_s=valid_s, offers=entries, peers=peers)
        data = message.model_dump_json(exclude=None if peers else {"peers"}).encode()
        if len(data) <= MAX_OFFERS_BYTES:
            return data
        entries, peers = (entries, peers[:-1]) if peers else (entries[:-1], peers)


def decode_offers(signer: str, data: bytes) -> list[ExpertOffered]:
    """The offers of the peer that signed ``data``. Raises PeerMisbehaved, also when they are about another peer."""
    return decode_answer(signer, data)[0]


def decode_answer(signer: str, data: bytes) -> tuple[list[ExpertOffered], dict[str, tuple[str, ...]]]:
    """As `decode_offers`, and whom the peer knows."""
    if len(data) > MAX_OFFERS_BYTES:
        raise PeerMisbehaved("offers_too_large", f"offers of {len(data)} bytes; the limit is {MAX_OFFERS_BYTES}")
    try:
        message = OffersMessage.model_validate_json(data)
    except ValidationError as error:
        raise PeerMisbehaved("offers_malformed", explain(error)) from None
    if message.peer != signer:
        raise PeerMisbehaved("offers_of_another", f"offers in the name of {message.peer!r}")
    introduced = {one.peer: one.addresses for one in message.peers}
    return [_offered(signer, entry, message.valid_s) for entry in message.offers], introduced


def _offered(peer: str, entry: OfferEntry, valid_s: float) -> ExpertOffered:
    return ExpertOffered(
        peer=peer,
        expert=entry.expert,
        model=entry.model,
        domains=entry.domains,
        concurrency=entry.concurrency,
        queue_limit=entry.queue_limit,
        in_flight=entry.in_flight,
        queued=entry.queued,
        available=entry.available,
        quality=entry.quality,
        features=entry.features,
        price=entry.price,
        valid_s=valid_s,
    )
