"""What the gateway answers, as JSON Schema."""

from typing import Any

Json = dict[str, Any]
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TIME: Json = {"type": "integer", "description": "Unix seconds"}


def _object(required: Json, optional: Json | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Json, **bounds: int) -> Json:
    return {"type": "array", "items": items, **bounds}


_MESH: Json = {"$ref": "#/components/schemas/Mesh"}
_ENDS: Json = {"enum": ["stop", "length", "tool_calls", "content_filter"]}
_USAGE = _object(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT))
_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _object({"name": _TEXT, "arguments": _TEXT})})
_SAID = _object({"role": {"const": "assistant"}, "content": _maybe(_TEXT)}, {"tool_calls": _list(_CALL)})
_CHOICE = _object({"index": _COUNT, "message": _SAID, "logprobs": {"type": "null"}, "finish_reason": _ENDS})
_TEXT_CHOICE = _object({"index": _COUNT, "text": _TEXT, "logprobs": {"type": "null"}, "finish_reason": _ENDS})
_VECTOR = {"anyOf": [_list({"type": "number"}), {**_TEXT, "description": "Base64 of 32-bit floats, little endian"}]}

ERROR = _object(
    {"error": _object({"message": _TEXT, "type": _TEXT, "param": _maybe(_TEXT), "code": _maybe(_TEXT)})},
)
PROVENANCE: Json = {
    **_object(
        {
            "request": {**_TEXT, "format": "uuid", "description": "What `mesh why` takes"},
            **dict.fromkeys(("strategy", "policy", "domain", "expert", "model", "fallback"), _TEXT),
            "peers": _list(_TEXT, minItems=1),
            "attempts": _COUNT,
            "agreement": {"type": "number"},
            "latency_ms": {"type": "number", "minimum": 0},
        }
    ),
    "description": "How the answer came about",
}
_ONE_MODEL = _object({"id": _TEXT, "object": {"const": "model"}, "created": _TIME, "owned_by": _TEXT})

SCHEMAS: Json = {
    "ChatCompletion": _object(
        {
            "id": {**_TEXT, "pattern": "^chatcmpl-"},
            "object": {"const": "chat.completion"},
            "created": _TIME,
            "model": _TEXT,
            "choices": _list(_CHOICE, minItems=1, maxItems=1),
            "usage": _maybe(_USAGE),
            "mesh": _MESH,
        }
    ),
    "Completion": _object(
        {
            "id": {**_TEXT, "pattern": "^cmpl-"},
            "object": {"const": "text_completion"},
            "created": _TIME,
            "model": _TEXT,
            "choices": _list(_TEXT_CHOICE, minItems=1, maxItems=16),
            "usage": _maybe(_USAGE),
        }
    ),
    "Response": _object(
        {
            "id": {**_TEXT, "pattern": "^resp_"},
            "object": {"const": "response"},
            "created_at": _TIME,
            "status": {"const": "completed"},
            "model": _TEXT,
            "output": _list(_object({"type": {"enum": ["message", "function_call"]}, "id": _TEXT})),
            "usage": {"type": ["object", "null"]},
            "mesh": _MESH,
        }
    ),
    "Embeddings": _object(
        {
            "object": {"const": "list"},
            "data": _list(_object({"object": {"const": "embedding"}, "index": _COUNT, "embedding": _VECTOR})),
            "model": _TEXT,
            "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
            "mesh": _MESH,
        }
    ),
    "Models": _object({"object": {"const": "list"}, "data": _list({"$ref": "#/components/schemas/Model"})}),
    "Model": _ONE_MODEL,
}
