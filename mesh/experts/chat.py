"""A conversation as OpenAI's chat completions have it, for experts that take one. Pure.

The other experts get its last question.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import JsonValue

# What of a chat completion's body concerns the model and travels with the request.
CHAT_FIELDS = ("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format")
MAX_MESSAGES = 2048
ROLES = ("system", "developer", "user", "assistant", "tool", "function")

Message = Mapping[str, JsonValue]


def check_chat(chat: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The chat as it is, if it is one. Raises ValueError that names what is wrong, its place and what is allowed."""
    unknown = sorted(set(chat) - set(CHAT_FIELDS))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not a field of a chat; it has {', '.join(CHAT_FIELDS)}")
    messages = chat.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise ValueError(f"messages must be a list of 1 to {MAX_MESSAGES} messages")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"messages[{place}] must be an object whose role is one of {', '.join(ROLES)}")
        _check_content(message, place)
    tools = chat.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise ValueError("tools must be a list of objects")
    return dict(chat)


def _check_content(message: Message, place: int) -> None:
    content = message.get("content")
    if content is None and message["role"] not in ("assistant", "function"):
        raise ValueError(f"messages[{place}] of the role {message['role']} has no content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise ValueError(  # noqa: TRY004 - bad input, whatever its type
                    f"messages[{place}].content must hold objects with a type"
                )
    elif content is not None and not isinstance(content, str):
        raise ValueError(f"messages[{place}].content must be a string or a list of parts")


def question_of(chat: Mapping[str, JsonValue]) -> str:
    """The text of the last message of the user, or else of the last that has any."""
    messages: Sequence[Any] = chat["messages"]  # type: ignore[assignment]
    asked = [text_of(message) for message in messages if message["role"] == "user"]
    said = [text for text in map(text_of, messages) if text]
    return next((text for text in reversed(asked) if text), said[-1] if said else "")


def text_of(message: Message) -> str:
    """What a message says in words; pictures and sounds are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(str(text) for text in texts)


def shows_something(chat: Mapping[str, JsonValue]) -> bool:
    """Whether the last message of the user has more in it than words: pictures, sounds, files."""
    messages: Sequence[Any] = chat["messages"]  # type: ignore[assignment]
    content = next((message.get("content") for message in reversed(messages) if message["role"] == "user"), None)
    return isinstance(content, list) and any(not isinstance(part.get("text"), str) for part in content)


def ask_instead(chat: Mapping[str, JsonValue], asked: str, text: str) -> dict[str, JsonValue] | None:
    """The same conversation with ``text`` for its last question; None where that is not just the text ``asked``."""
    messages: Sequence[Any] = chat["messages"]  # type: ignore[assignment]
    place = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
    if place < 0 or messages[place].get("content") != asked:
        return None
    return {**chat, "messages": [*messages[:place], {**messages[place], "content": text}, *messages[place + 1 :]]}


def encode_chat(chat: Mapping[str, JsonValue] | None) -> str:
    """Canonical JSON, which is what is digested and sent; empty for no chat."""
    return "" if chat is None else msgspec.json.encode(chat, order="sorted").decode()


def decode_chat(text: str) -> dict[str, JsonValue]:
    """What `encode_chat` made. Raises ValueError for anything else."""
    chat = msgspec.json.decode(text.encode())
    if not isinstance(chat, dict):
        raise ValueError("a chat must be an object")  # noqa: TRY004 - bad input, whatever its type
    return check_chat(chat)
