"""What is asked of an expert and what comes back, the same for one here and one on another machine."""

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from pydantic import JsonValue

from mesh.config import ContentPolicy
from mesh.errors import MeshError

FailureKind = Literal[
    "overloaded",  # the expert's queue is full; another may have room
    "expired",  # the deadline passed before or while it worked
    "cancelled",  # the caller took it back
    "unknown_expert",  # the peer does not serve it (any more)
    "invalid",  # the expert cannot take this input; nobody else could either, unless it says retryable
    "failed",  # the expert raised
    "unavailable",  # its engine (model server, process) cannot be reached
    "disconnected",  # the connection to the peer was lost
    "protocol",  # the peer broke the protocol
]

# ``answer``: text for text; ``embed``: a JSON list of texts in, a JSON list of vectors out.
Task = Literal["answer", "embed"]
# ``message``: the text is the JSON of an assistant's message that has ``tool_calls`` (and ``content`` or null).
AnswerFormat = Literal["text", "message"]

# The longest answer of a call that is not held, in bytes.
MAX_PASSED = 1 << 30

# Whether another expert may succeed where this attempt failed.
RETRYABLE: dict[str, bool] = {
    "overloaded": True,
    "expired": False,
    "cancelled": False,
    "unknown_expert": True,
    "invalid": False,
    "failed": True,
    "unavailable": True,
    "disconnected": True,
    "protocol": True,
}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request to one expert. ``timeout_ms`` is what is left of the deadline when it is sent.

    ``chat`` is the whole conversation as JSON (`mesh.experts.chat`), or empty; ``content`` its last question.
    ``caller`` is who asked the node that makes the call; it stays there.
    ``keep`` is what the serving node's journal may keep of it at most; None: that node decides.
    Of an answer that is not ``held`` nobody keeps the text: it goes to the caller piece by piece.
    """

    request: str
    expert: str
    domain: str
    content: str
    timeout_ms: int
    options: dict[str, JsonValue] = {}
    chat: str = ""
    task: Task = "answer"
    caller: str = ""
    keep: ContentPolicy | None = None
    held: bool = True


class Passed(msgspec.Struct, frozen=True):
    """What is known of a text that went by: `mesh.experts.answers.digest`, and bytes of UTF-8."""

    digest: str
    size: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an expert answered. Times are milliseconds as its own node measured them; -1: not known.

    ``finish_reason`` is OpenAI's: ``stop``, ``length``, ``tool_calls``, ``content_filter``, or empty: not known.
    Where the call is not ``held`` and the text went by in pieces, it is empty, and ``passed`` tells of it.
    """

    text: str
    model: str = ""
    tokens_in: int = -1
    tokens_out: int = -1
    first_token_ms: float = -1.0
    latency_ms: float = -1.0
    signature: str = ""
    format: AnswerFormat = "text"
    finish_reason: str = ""
    passed: Passed | None = None


class AttemptFailed(MeshError):
    """An expert gave no answer; ``kind`` says why, ``retryable`` whether another may be asked.

    ``retry_after_s``: after how many seconds the same one may have room again; 0: not known.
    """

    def __init__(
        self, kind: FailureKind, message: str, *, retryable: bool | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.message = message
        self.retryable = RETRYABLE[kind] if retryable is None else retryable
        self.retry_after_s = retry_after_s


# Takes the next piece of the answer; awaiting it is how back-pressure reaches the expert.
Emit = Callable[[str], Awaitable[None]]
