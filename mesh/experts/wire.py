"""``expert.ask`` as it goes between peers: JSON headers, UTF-8 bodies. Pure.

Everything here came from a stranger until it has been through one of these models.
"""

import codecs
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from mesh.config import DOMAIN_PATTERN, ContentPolicy
from mesh.errors import PeerMisbehaved
from mesh.experts.answers import Tally
from mesh.experts.calls import MAX_PASSED, Answer, AnswerFormat, Call, Passed, Task
from mesh.experts.queries import EXPERT_PATTERN, Options, Text

ASK = "expert.ask"

MAX_ANSWER_BYTES = 8 << 20
MAX_CHUNK_BYTES = 32 * 1024
MAX_MODEL_CHARS = 128

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Domain = Annotated[str, Field(pattern=DOMAIN_PATTERN)]
Expert = Annotated[str, Field(pattern=EXPERT_PATTERN)]
Model = Annotated[Text, Field(max_length=MAX_MODEL_CHARS)]
Tokens = Annotated[int, Field(ge=-1, le=1 << 40)]
Milliseconds = Annotated[float, Field(ge=-1, le=1e9, allow_inf_nan=False)]


class FromPeer(BaseModel):
    """JSON that a peer sent. Fields that are not known here are ignored, so that later versions may add some."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class AskHeader(FromPeer):
    """The header of ``expert.ask``; the body is the content, as UTF-8, and ``chat_bytes`` of JSON after it.

    With ``pieces`` a streamed answer is held on neither side, and may be longer.
    """

    request: RequestId
    expert: Expert
    domain: Domain
    stream: bool = False
    options: Options = Field(default_factory=dict)
    chat_bytes: int = Field(default=0, ge=0)
    task: Task = "answer"
    keep: ContentPolicy | None = None
    pieces: bool = False


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
    format: AnswerFormat = "text"
    finish_reason: str = Field(default="", max_length=32)


def ask_header(call: Call, *, stream: bool) -> dict[str, JsonValue]:
    """The header for a call."""
    return {
        "request": call.request,
        "expert": call.expert,
        "domain": call.domain,
        "stream": stream,
        "options": call.options,
        **({"chat_bytes": len(call.chat.encode())} if call.chat else {}),
        **({"task": call.task} if call.task != "answer" else {}),
        **({"keep": call.keep} if call.keep else {}),
        **({"pieces": True} if stream and not call.held else {}),
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
        **({"format": answer.format} if answer.format != "text" else {}),
        **({"finish_reason": answer.finish_reason} if answer.finish_reason else {}),
    }


def chunks_of(text: str) -> list[bytes]:
    """A piece of text as chunks; a character may be split between two, `TextJoiner` puts it together again."""
    data = text.encode()
    return [data[start : start + MAX_CHUNK_BYTES] for start in range(0, len(data), MAX_CHUNK_BYTES)]


class TextJoiner:
    """Turns chunks, split anywhere, into text; all of them are kept if ``held``.

    Raises PeerMisbehaved for what is not UTF-8 or too much.
    """

    def __init__(self, *, held: bool = True) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held = held
        self._limit = MAX_ANSWER_BYTES if held else MAX_PASSED
        self._parts: list[bytes] = []
        self._tally = Tally()
        self.size = 0

    @property
    def passed(self) -> Passed:
        """What went by, where nothing is held."""
        return self._tally.passed

    def add(self, chunk: bytes, *, last: bool = False) -> str:
        """The text that this chunk completes."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise PeerMisbehaved("answer_too_large", f"an answer of more than {self._limit} bytes")
        if self._held:
            self._parts.append(chunk)
        else:
            self._tally.add(chunk)
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
