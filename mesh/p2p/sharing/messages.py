"""What is said of feeds between nodes: announcements, heads and pages of batches, each as bytes. Pure."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from mesh.errors import PeerMisbehaved
from mesh.events.feed import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, MAX_NUMBER
from mesh.events.vocabulary.journal import SignedBatch
from mesh.identity import public_key_of

PROTOCOL = "/mesh/journal/1.0.0"
TOPIC = "journal"
HEADS, RANGE = "journal.heads", "journal.range"
MAX_ANNOUNCEMENT_BYTES = 2048
MAX_HEADS = 1024
MAX_HEADS_BYTES = 1 << 20
MAX_PAGE_BYTES = 1 << 20
MAX_PAGE_BATCHES = 256
MAX_STATEMENT_BYTES = 1024
_SIZE = struct.Struct(">I")

Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


def _is_peer_id(text: str) -> str:
    public_key_of(text)
    return text


class _FromPeer(BaseModel):
    """Unknown fields are passed over; types are taken strictly."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Statement(_FromPeer):
    """A signed batch without its events."""

    origin: Annotated[str, Field(max_length=80), AfterValidator(_is_peer_id)]
    epoch: Number
    first: Number
    last: Number
    origin_seq: Number
    prev: str = Field(pattern=r"^[0-9a-f]{64}$")
    link: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def batch(self) -> SignedBatch:
        """As the journal keeps it."""
        return SignedBatch(**self.model_dump())


class Announcement(_FromPeer):
    """What a node gossips: the newest batch of its own feed, and a digest of where all feeds end that it holds."""

    version: int = Field(default=1, ge=1)
    head: Statement | None
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class Heads(_FromPeer):
    """What `journal.heads` answers: the newest whole batch of each feed."""

    version: int = Field(default=1, ge=1)
    heads: Annotated[tuple[Statement, ...], Field(max_length=MAX_HEADS, strict=False)]


class RangeHeader(_FromPeer):
    """What `journal.range` asks for: the batches of a feed from the one that holds ``from`` on."""

    origin: str = Field(max_length=80)
    epoch: Number
    start: Number = Field(alias="from")
    max_bytes: int = Field(default=MAX_PAGE_BYTES, ge=1)


M = TypeVar("M", bound=BaseModel)


def _parse(model: type[M], raw: bytes, limit: int) -> M:
    if len(raw) > limit:
        raise PeerMisbehaved("journal_malformed", f"{model.__name__} of {len(raw)} bytes; the limit is {limit}")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise _malformed(model, error) from None


def _malformed(model: type[BaseModel], error: ValidationError) -> PeerMisbehaved:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"][:4])
    return PeerMisbehaved("journal_malformed", f"{model.__name__} {where}: {first['msg'][:200]}")


def encode_announcement(head: SignedBatch | None, digest: str) -> bytes:
    """The gossip."""
    return msgspec.json.encode({"version": 1, "head": head, "digest": digest})


def decode_announcement(signer: str, data: bytes) -> tuple[SignedBatch | None, str]:
    """The signer's newest batch and digest. Raises PeerMisbehaved, also for a batch of another node."""
    announcement = _parse(Announcement, data, MAX_ANNOUNCEMENT_BYTES)
    if announcement.head is not None and announcement.head.origin != signer:
        raise PeerMisbehaved("journal_of_another", f"it announces the feed of {announcement.head.origin}")
    return announcement.head.batch() if announcement.head is not None else None, announcement.digest


def encode_heads(heads: Sequence[SignedBatch]) -> bytes:
    """The body of the answer to `journal.heads`."""
    return msgspec.json.encode({"version": 1, "heads": heads[:MAX_HEADS]})


def decode_heads(body: bytes) -> list[SignedBatch]:
    """The newest batches that the peer holds. Raises PeerMisbehaved."""
    return [statement.batch() for statement in _parse(Heads, body, MAX_HEADS_BYTES).heads]


def decode_range(header: Mapping[str, JsonValue]) -> RangeHeader:
    """What is asked for. Raises PeerMisbehaved."""
    try:
        return RangeHeader.model_validate(header)
    except ValidationError as error:
        raise _malformed(RangeHeader, error) from None


def encode_batch(batch: SignedBatch, payloads: Iterable[bytes]) -> bytes:
    """One batch of a page: its statement, then its events, each behind its size."""
    return b"".join(_SIZE.pack(len(part)) + part for part in (msgspec.json.encode(batch), *payloads))


def decode_page(body: bytes) -> list[tuple[SignedBatch, list[bytes]]]:
    """The batches of a page. Raises PeerMisbehaved."""
    if len(body) > MAX_PAGE_BYTES:
        raise PeerMisbehaved("journal_malformed", f"a page of {len(body)} bytes; the limit is {MAX_PAGE_BYTES}")
    batches: list[tuple[SignedBatch, list[bytes]]] = []
    at = 0
    while at < len(body):
        raw, at = _part(body, at, MAX_STATEMENT_BYTES)
        batch = _parse(Statement, raw, MAX_STATEMENT_BYTES).batch()
        count = batch.last - batch.first + 1
        if not 1 <= count <= MAX_BATCH_EVENTS or len(batches) >= MAX_PAGE_BATCHES:
            raise PeerMisbehaved("journal_malformed", f"a batch of {count} events, after {len(batches)} others")
        payloads = []
        for _ in range(count):
            payload, at = _part(body, at, MAX_EVENT_BYTES)
            payloads.append(payload)
        batches.append((batch, payloads))
    return batches


def _part(body: bytes, at: int, limit: int) -> tuple[bytes, int]:
    begin = at + _SIZE.size
    size = _SIZE.unpack_from(body, at)[0] if begin <= len(body) else limit + 1
    if size > limit or begin + size > len(body):
        raise PeerMisbehaved("journal_malformed", f"at byte {at} of {len(body)} no part of at most {limit} bytes")
    return body[begin : begin + size], begin + size
