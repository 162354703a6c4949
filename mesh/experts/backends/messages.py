"""What backends share in reading calls and in putting answers together. Pure."""

import json
from typing import Any

from mesh.experts.calls import AttemptFailed, Call

MAX_TEXTS = 2048


def texts_of(call: Call) -> list[str]:
    """The texts of a call whose task is ``embed``. Raises AttemptFailed for what is not a list of texts."""
    try:
        texts = json.loads(call.content)
    except ValueError:
        texts = None
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS or not all(isinstance(t, str) for t in texts):
        raise AttemptFailed("invalid", f"what is embedded is a JSON list of 1 to {MAX_TEXTS} texts")
    return texts


class ToolCalls:
    """The calls of tools in a streamed chat completion, put together from their pieces."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, chunk: dict[str, Any]) -> None:
        """Take what a chunk has of them."""
        match chunk:
            case {"choices": [{"delta": {"tool_calls": list(pieces)}}, *_]}:
                for piece in pieces:
                    self._add_piece(piece)

    def message(self, content: str) -> str:
        """The JSON of the assistant's message."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        message = {"role": "assistant", "content": content or None, "tool_calls": calls}
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False)

    def _add_piece(self, piece: object) -> None:
        match piece:
            case {"function": dict(function), **rest}:
                index = rest.get("index", 0)
                if not isinstance(index, int):
                    return
                call = self._calls.setdefault(
                    index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                )
                call["id"] = call["id"] or str(rest.get("id") or "")
                call["function"]["name"] += str(function.get("name") or "")
                call["function"]["arguments"] += str(function.get("arguments") or "")
