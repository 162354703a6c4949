"""The lines between the node and a program that is an expert: see "subprocess" in docs/experts.md. Pure."""

from typing import Literal

import msgspec

from mesh.experts.calls import Answer, AnswerFormat, AttemptFailed, Call

# The kinds of failure that a program may give; the others are the node's to say.
ProgramFailure = Literal["invalid", "failed", "overloaded", "unavailable"]
_MAX_SHOWN = 80


class Ready(msgspec.Struct, frozen=True, tag_field="type", tag="ready"):
    """The first line of a program."""

    model: str = ""


class Piece(msgspec.Struct, frozen=True, tag_field="type", tag="piece"):
    """More of the answer to a call."""

    id: str
    text: str


class Answered(msgspec.Struct, frozen=True, tag_field="type", tag="answer"):
    """The last of an answer: its ``text`` comes behind the pieces."""

    id: str
    text: str = ""
    model: str = ""
    tokens_in: int = -1
    tokens_out: int = -1
    finish_reason: str = ""
    format: AnswerFormat = "text"

    def answer(self, text: str, model: str) -> Answer:
        """The answer, whose whole text is ``text``."""
        return Answer(
            text=text,
            model=self.model or model,
            tokens_in=max(self.tokens_in, -1),
            tokens_out=max(self.tokens_out, -1),
            finish_reason=self.finish_reason[:32],
            format=self.format,
        )


class Failed(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """There is no answer."""

    id: str
    message: str
    kind: ProgramFailure = "failed"

    def failure(self) -> AttemptFailed:
        """The same, to raise."""
        return AttemptFailed(self.kind, self.message[:500])


Line = Ready | Piece | Answered | Failed
_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def parse(line: bytes) -> Line:
    """What a program wrote. Raises ValueError that shows it."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{line[:_MAX_SHOWN].decode(errors='replace').strip()!r} ({error})") from None


def call_line(number: str, call: Call) -> bytes:
    """The line that asks."""
    return msgspec.json.encode({"type": "call", "id": number, **call_fields(call)})


def cancel_line(number: str) -> bytes:
    """The line that takes a call back."""
    return msgspec.json.encode({"type": "cancel", "id": number})


def call_fields(call: Call) -> dict[str, object]:
    """What an expert in any language is told of a call."""
    return {
        "request": call.request,
        "domain": call.domain,
        "task": call.task,
        "content": call.content,
        "chat": msgspec.Raw(call.chat.encode()) if call.chat else None,
        "options": call.options,
        "timeout_ms": call.timeout_ms,
    }
