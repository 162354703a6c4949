"""What of the bodies Python's types do not say, as JSON Schema. Pure."""

from typing import Any

from mesh.experts.chat import ROLES

Json = dict[str, Any]
# These may say nothing: they call tools instead.
_MAY_BE_SILENT = ("assistant", "function")

PART: Json = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
_CONTENT: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": PART}]}
_TEXT: Json = {"type": "string", "minLength": 1}
_SAYS: Json = {
    "type": "object",
    "required": ["content"],
    "properties": {
        "content": {
            "anyOf": [_TEXT, {"type": "array", "contains": {"required": ["text"], "properties": {"text": _TEXT}}}]
        }
    },
}

CHAT_MESSAGE: Json = {
    "title": "Message",
    "anyOf": [
        {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": [role for role in ROLES if role not in _MAY_BE_SILENT]},
                "content": _CONTENT,
            },
        },
        {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"enum": list(_MAY_BE_SILENT)},
                "content": {"anyOf": [*_CONTENT["anyOf"], {"type": "null"}]},
            },
        },
    ],
}
# A conversation in which nobody says a word asks nothing.
SAYS_SOMETHING: Json = {"contains": _SAYS}
ITEM_SAYS_SOMETHING: Json = {"contains": {**_SAYS, "properties": {**_SAYS["properties"], "type": {"const": "message"}}}}


def one_prompt_in_a_stream(schema: Json) -> None:
    """Several prompts are answered whole."""
    schema["anyOf"] = [
        {"properties": {"stream": {"enum": [False, None]}}},
        {"properties": {"prompt": {"maxItems": 1}}},
    ]
