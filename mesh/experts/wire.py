"""``expert.ask`` and ``expert.offers`` as they go between peers: JSON headers, UTF-8 bodies. Pure.

Everything here came from a stranger until it has been through one of these models.
"""

import codecs
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from mesh.config import DOMAIN_PATTERN
from mesh.errors import PeerMisbehaved
from mesh.events.vocabulary.experts import ExpertOffered
from mesh.experts.calls import Answer, Call
from mesh.experts.queries import EXPERT_PATTERN, Options, Text

ASK = "expert.ask"
OFFERS = "expert.offers"

MAX_ANSWER_BYTES = 8 << 20
MAX_CHUNK_BYTES = 32 * 1024
MAX_OFFERS = 64
MAX_OFFERS_BYTES = 32 * 1024
MAX_VALID_S = 86_400.0
MAX_MODEL_CHARS = 128

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Domain = Annotated[str, Field(pattern=DOMAIN_PATTERN)]
Expert = Annotated[str, Field(pattern=EXPERT_PATTERN)]
Model = Annotated[Text, Field(max_length=MAX_MODEL_CHARS)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Tokens = Annotated[int, Field(ge=-1, le=1 << 40)]
Milliseconds = Annotated[float, Field(ge=-1, le=1e9, allow_inf_nan=False)]


class FromPeer(BaseModel):
    """JSON that a peer sent. Fields that are not known here are ignored, so that later versions may add some."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class AskHeader(FromPeer):
    """The header of ``expert.ask``; the body is the content, as UTF-8."""

    request: RequestId
    expert: Expert
    domain: Domain
    stream: bool = False
    options: Options = Field(default_factory=dict)


class AnswerHeader(FromPeer):
    """The header of the reply.

    The answer is all chunks and then the body, as UTF-8, without its first ``skip_bytes``: an expert may stream
    something else than it finally answers.
    """

    model: Model = ""
    tokens_in: Tokens = -1
    tokens_out: Tokens = -1
    first_token_ms: Milliseconds = -1.0
    latency_ms: Milliseconds = -1.0
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")
    skip_bytes: int = Field(default=0, ge=0, le=MAX_ANSWER_BYTES)


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


def _distinct(offers: tuple[OfferEntry, ...]) -> tuple[OfferEntry, ...]:
    names = [offer.expert for offer in offers]
    if len(set(names)) != len(names):
        raise ValueError("two offers have the same expert")
    return offers


class OffersMessage(FromPeer):
    """What a peer gossips, and answers to ``expert.offers``: all that it serves. ``peer`` is the peer itself."""

    version: int = Field(default=1, ge=1)
    peer: str = Field(max_length=128)
    valid_s: float = Field(gt=0, le=MAX_VALID_S)
    offers: Annotated[tuple[OfferEntry, ...], Field(max_length=MAX_OFFERS, strict=False), AfterValidator(_distinct)]


def ask_header(call: Call, *, stream: bool) -> dict[str, JsonValue]:
    """The header for a call."""
    return {
        "request": call.request,
        "expert": call.expert,
        "domain": call.domain,
        "stream": stream,
        "options": call.options,
    }


def answer_header(answer: Answer, digest: str, skip_bytes: int) -> dict[str, JsonValue]:
    """The header for an answer."""
    return {
        "model": answer.model,
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        "first_token_ms": answer.first_token_ms,
        "latency_ms": answer.latency_ms,
        "digest": digest,
        "signature": answer.signature,
        "skip_bytes": skip_bytes,
    }


def encode_offers(peer: str, offers: list[ExpertOffered], valid_s: float) -> bytes:
    """All that ``peer`` serves, for the others; where that is over a limit, the first ones."""
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
        )
        for offer in offers[:MAX_OFFERS]
    )
    while True:
        data = OffersMessage(peer=peer, valid_s=valid_s, offers=entries).model_dump_json().encode()
        if len(data) <= MAX_OFFERS_BYTES:
            return data
        entries = entries[:-1]


def decode_offers(signer: str, data: bytes) -> list[ExpertOffered]:
    """The offers of the peer that signed ``data``. Raises PeerMisbehaved, also when they are about another peer."""
    if len(data) > MAX_OFFERS_BYTES:
        raise PeerMisbehaved("offers_too_large", f"offers of {len(data)} bytes; the limit is {MAX_OFFERS_BYTES}")
    try:
        message = OffersMessage.model_validate_json(data)
    except ValidationError as error:
        raise PeerMisbehaved("offers_malformed", explain(error)) from None
    if message.peer != signer:
        raise PeerMisbehaved("offers_of_another", f"offers in the name of {message.peer!r}")
    return [_offered(signer, entry, message.valid_s) for entry in message.offers]


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
        valid_s=valid_s,
    )


def chunks_of(text: str) -> list[bytes]:
    """A piece of text as chunks; a character may be split between two, `TextJoiner` puts it together again."""
    data = text.encode()
    return [data[start : start + MAX_CHUNK_BYTES] for start in range(0, len(data), MAX_CHUNK_BYTES)]


class TextJoiner:
    """Turns chunks, split anywhere, into text. Raises PeerMisbehaved for what is not UTF-8 or too much."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes, *, last: bool = False) -> str:
        """The text that this chunk completes."""
        self.size += len(chunk)
        if self.size > MAX_ANSWER_BYTES:
            raise PeerMisbehaved("answer_too_large", f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        self._parts.append(chunk)
        try:
            return self._decoder.decode(chunk, final=last)
        except UnicodeDecodeError as error:
            raise PeerMisbehaved("answer_not_utf8", f"the answer is not UTF-8: {error.reason}") from None

    def whole(self, skip_bytes: int) -> str:
        """All of it as text, without its first bytes."""
        try:
            return b"".join(self._parts)[skip_bytes:].decode()
        except UnicodeDecodeError as error:
            raise PeerMisbehaved("answer_not_utf8", f"the answer is not UTF-8: {error.reason}") from None


def fit_model(name: str) -> str:
    """What a backend calls its model, as far as it may travel; what is signed must be this."""
    return name[:MAX_MODEL_CHARS].encode("utf-8", "replace").decode()


def explain(error: ValidationError) -> str:
    """The first few problems, without the values: they are the peer's and may be anything."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems[:5])[:400]
