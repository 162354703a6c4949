"""What is in the frames: bounded, strictly validated, and the peer's fault when it is not. Pure.

JSON objects may hold fields that are not known here; they are ignored, so that later versions can add some.
"""

import math
import struct
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from mesh.errors import PeerMisbehaved
from mesh.p2p.frames import Frame, Kind, encode

PROTOCOL = "/mesh/expert/1.0.0"
VERSION = 1

# The kind of the ERROR with call 0 by which a node says goodbye.
LEAVING = "leaving"

# The method of a call whose true method, header and body are sealed; see `mesh.p2p.sealed_calls`.
SEALED = "sealed"

MAX_HELLO_BYTES = 4096
MAX_HEAD_BYTES = 16 * 1024  # the JSON of a request or a result
MAX_ERROR_BYTES = 4096
MAX_MESSAGE_CHARS = 600
MAX_TIMEOUT_MS = 3_600_000
# Every implementation takes frame bodies of this size. A request or result that fits in one carries its body
# inside; larger bodies travel in body frames, under credit.
MIN_FRAME_BYTES = 4096
DEFAULT_WINDOW_BYTES = 256 * 1024
MAX_CREDIT = (1 << 32) - 1

_SIZE = struct.Struct(">I")
_PING = struct.Struct(">Q")
_PONG = struct.Struct(">QQ")


def _finite(value: JsonValue) -> JsonValue:
    """JSON has no infinity and no NaN, though parsers take them."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("numbers are finite")
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return value


JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
Name = Annotated[str, Field(max_length=64)]
HexKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Message(BaseModel):
    """What a peer sent as JSON."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class Limits(Message):
    """What the sender of a hello is ready to take; the other side keeps within it."""

    max_frame_bytes: int = Field(ge=MIN_FRAME_BYTES, le=1 << 24)
    max_body_bytes: int = Field(ge=0, le=1 << 40)
    requests: int = Field(ge=1, le=1 << 20)
    window_bytes: int = Field(ge=1024, le=1 << 30)


class Hello(Message):
    """The first frame of each side. The acceptor's ``versions`` holds exactly the one that it chose."""

    versions: Annotated[list[Annotated[int, Field(ge=1, le=1 << 16)]], Field(min_length=1, max_length=16)]
    mesh: Name
    name: Name = ""
    role: Name = "node"
    heartbeat_ms: int = Field(default=1000, ge=10, le=600_000)
    features: Annotated[list[Annotated[str, Field(max_length=32)]], Field(max_length=32)] = []
    seal: HexKey | None = None
    limits: Limits


class SealedRequest(Message):
    """What a sealed request holds; ``body_key`` opens a body that is a record of its own."""

    method: str = Field(min_length=1, max_length=64)
    header: JsonObject = {}
    body_key: HexKey | None = None


class SealedResult(Message):
    """What the last record of a sealed answer holds: a header, or an error."""

    header: JsonObject = {}
    error: "ErrorBody | None" = None
    body_key: HexKey | None = None


class RequestHead(Message):
    """How a call begins; ``body_bytes`` is the size of the whole body as it travels.

    ``plain_bytes`` above 0: what travels is one zstd frame, of a body of so many bytes.
    """

    method: str = Field(min_length=1, max_length=64)
    timeout_ms: int = Field(ge=1, le=MAX_TIMEOUT_MS)
    body_bytes: int = Field(default=0, ge=0, le=1 << 40)
    plain_bytes: int = Field(default=0, ge=0, le=1 << 40)
    header: JsonObject = {}


class ResultHead(Message):
    """How a call ends well; ``body_bytes`` and ``plain_bytes`` as in a request."""

    body_bytes: int = Field(default=0, ge=0, le=1 << 40)
    plain_bytes: int = Field(default=0, ge=0, le=1 << 40)
    header: JsonObject = {}


class ErrorBody(Message):
    """How a call ends badly; with call 0, why the stream ends."""

    kind: str = Field(min_length=1, max_length=64)
    message: str = Field(default="", max_length=MAX_MESSAGE_CHARS)
    retryable: bool = False
    retry_after_ms: int = Field(default=0, ge=0, le=3_600_000)


M = TypeVar("M", bound=Message)


def parse(model: type[M], raw: bytes, limit: int) -> M:
    """``raw`` as ``model``. Raises PeerMisbehaved("malformed" | "json_too_large")."""
    if len(raw) > limit:
        raise PeerMisbehaved("json_too_large", f"{model.__name__} of {len(raw)} bytes; the limit is {limit}")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:4])
        raise PeerMisbehaved("malformed", f"{model.__name__} {where}: {first['msg'][:200]}") from None


def parse_head(model: type[M], body: bytes) -> tuple[M, bytes]:
    """A request's or result's frame body: ``u32 size | JSON | first bytes of the body``."""
    if len(body) < _SIZE.size:
        raise PeerMisbehaved("malformed", f"{model.__name__} frame of {len(body)} bytes; the least is {_SIZE.size}")
    end = _SIZE.size + _SIZE.unpack_from(body)[0]
    if end > len(body):
        raise PeerMisbehaved("malformed", f"{model.__name__} of {end} bytes in a frame body of {len(body)}")
    return parse(model, body[_SIZE.size : end], MAX_HEAD_BYTES), body[end:]


def parse_credit(body: bytes) -> int:
    """The bytes that a credit frame grants; at least 1."""
    if len(body) != _SIZE.size or not (granted := _SIZE.unpack(body)[0]):
        raise PeerMisbehaved("malformed", f"credit is a u32 above 0, not {body[:8].hex()}")
    return int(granted)


def parse_ping(body: bytes) -> int:
    """When a ping was sent, microseconds since the Unix epoch by its sender's clock."""
    if len(body) != _PING.size:
        raise PeerMisbehaved("malformed", f"a ping holds {_PING.size} bytes, not {len(body)}")
    return int(_PING.unpack(body)[0])


def parse_pong(body: bytes) -> tuple[int, int]:
    """What the ping held, and when the pong was sent by its sender's clock."""
    if len(body) != _PONG.size:
        raise PeerMisbehaved("malformed", f"a pong holds {_PONG.size} bytes, not {len(body)}")
    asked, answered = _PONG.unpack(body)
    return asked, answered


def expect_empty(frame: Frame) -> None:
    """Some frames say all by their kind."""
    if frame.body:
        raise PeerMisbehaved("malformed", f"a {frame.kind.name} frame has no body, this one {len(frame.body)} bytes")


def hello(message: Hello) -> bytes:
    """The frame."""
    return encode(Kind.HELLO, 0, message.model_dump_json(exclude_none=True).encode())


def request_head(
    method: str, timeout_ms: int, header: Mapping[str, JsonValue], body_bytes: int, plain_bytes: int = 0
) -> bytes:
    """A request's JSON. Raises TypeError or ValueError for what is not JSON or too large."""
    fields = {"method": method, "timeout_ms": timeout_ms, "body_bytes": body_bytes, "header": header}
    return _head({**fields, "plain_bytes": plain_bytes} if plain_bytes else fields)


def result_head(header: Mapping[str, JsonValue], body_bytes: int, plain_bytes: int = 0) -> bytes:
    """A result's JSON. Raises TypeError or ValueError for what is not JSON or too large."""
    fields: dict[str, object] = {"body_bytes": body_bytes, "header": header}
    return _head({**fields, "plain_bytes": plain_bytes} if plain_bytes else fields)


def sealed_content(fields: Mapping[str, object], inline: bytes) -> bytes:
    """What a sealed record holds: ``u32 size | JSON | body``. Raises TypeError or ValueError as `request_head`."""
    raw = _head({name: value for name, value in fields.items() if value is not None})
    return _SIZE.pack(len(raw)) + raw + inline


def _head(fields: dict[str, object]) -> bytes:
    raw = msgspec.json.encode(fields)
    if len(raw) > MAX_HEAD_BYTES:
        raise ValueError(f"a header of {len(raw)} bytes; the limit is {MAX_HEAD_BYTES}")
    return raw


def fits(head: bytes, body: bytes) -> bool:
    """Whether the body travels inside the request or result frame."""
    return _SIZE.size + len(head) + len(body) <= MIN_FRAME_BYTES


def with_head(kind: Kind, call: int, head: bytes, inline: bytes = b"") -> bytes:
    """A request or result frame with the first bytes of its body."""
    return encode(kind, call, _SIZE.pack(len(head)) + head + inline)


def error(call: int, kind: str, message: str, *, retryable: bool = False, retry_after_s: float = 0.0) -> bytes:
    """The frame; what is too long is cut."""
    readable = message[:MAX_MESSAGE_CHARS].encode(errors="replace").decode()
    body = {"kind": kind[:64] or "failed", "message": readable, "retryable": retryable}
    if retry_after_s > 0:
        body["retry_after_ms"] = min(int(retry_after_s * 1000), 3_600_000)
    return encode(Kind.ERROR, call, msgspec.json.encode(body))


def credit(call: int, granted: int) -> bytes:
    """The frame."""
    return encode(Kind.CREDIT, call, _SIZE.pack(granted))


def ping(sequence: int, sent_us: int) -> bytes:
    """The frame; ``sequence`` travels in the place of the call."""
    return encode(Kind.PING, sequence, _PING.pack(sent_us))


def pong(sequence: int, asked_us: int, answered_us: int) -> bytes:
    """The frame that answers the ping ``sequence``."""
    return encode(Kind.PONG, sequence, _PONG.pack(asked_us, answered_us))
