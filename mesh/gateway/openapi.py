"""The OpenAPI document of the gateway, made from the models that check what comes in."""

from functools import cache
from typing import Any

from mesh import __version__
from mesh.gateway.bodies import ChatBody, CompletionBody, EmbeddingsBody, ResponsesBody

_POSTS = (
    ("/v1/chat/completions", "chat", ChatBody, "A chat completion; with `stream` as server-sent events"),
    ("/v1/completions", "complete", CompletionBody, "A completion of a prompt"),
    ("/v1/responses", "respond", ResponsesBody, "A response; nothing is kept for later ones"),
    ("/v1/embeddings", "embed", EmbeddingsBody, "Vectors for texts"),
)
_ERRORS = {
    "400": "The request is not as it should be",
    "401": "There is no valid API key",
    "404": "Nobody offers that model",
    "413": "The body is too large",
    "415": "The body is not declared as JSON",
    "429": "The key's quota, or what the node can take, is used up",
    "502": "The experts that were asked failed",
    "503": "There is nobody to ask now",
    "504": "The deadline passed",
}


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {}
    for path, name, model, summary in _POSTS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
        answer = {"application/json": {"schema": {"type": "object"}}}
        if name != "embed":
            answer["text/event-stream"] = {"schema": {"type": "string"}}
        body = {"required": True, "content": content}
        paths[path] = {"post": _operation(name, summary, answer, body)}
    listed = {"application/json": {"schema": {"type": "object", "required": ["object", "data"]}}}
    paths["/v1/models"] = {"get": _operation("models", "Every name that can be asked for", listed)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Synaptic Mesh gateway", "version": __version__},
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
        "paths": paths,
    }


def _operation(name: str, summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses = {"200": {"description": "The answer", "content": answer}}
    responses |= {status: {"description": text, "content": error} for status, text in _ERRORS.items()}
    return {"operationId": name, "summary": summary, "responses": responses} | (
        {"requestBody": body} if body is not None else {}
    )


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
