"""The OpenAPI document of the gateway, made from the models that check what comes in."""

from functools import cache
from typing import Any

from mesh import __version__
from mesh.experts.queries import Query
from mesh.gateway.answer_schemas import ERROR, PROVENANCE, SCHEMAS
from mesh.gateway.bodies import ChatBody, CompletionBody, EmbeddingsBody, ResponsesBody

Json = dict[str, Any]
_POSTS = (
    ("/v1/chat/completions", "chat", ChatBody, "ChatCompletion", "A chat completion"),
    ("/v1/completions", "complete", CompletionBody, "Completion", "A completion of a prompt, or of each of several"),
    ("/v1/responses", "respond", ResponsesBody, "Response", "A response; nothing is kept for later ones"),
    ("/v1/embeddings", "embed", EmbeddingsBody, "Embeddings", "Vectors for texts"),
)
_EVERYWHERE = {
    "401": "There is no valid API key",
    "421": "The node listens on loopback and does not go by the name in `Host`",
    "429": "The key's quota, or what the node can take, is used up",
    "500": "The gateway failed: a defect",
}
_ASKING = {
    "400": "The request is not as it should be",
    "404": "Nobody offers that model, nor did lately",
    "408": "The body came too slowly",
    "413": "The body is too large",
    "415": "The body is not declared as JSON",
    "499": "The request was taken back",
    "502": "The experts that were asked failed",
    "503": "There is nobody to ask now",
    "504": "The deadline passed",
}
_REQUEST_ID = {"description": "What `mesh why` takes", "schema": {"type": "string", "format": "uuid"}}
_HEADERS: Json = {
    "401": {"www-authenticate": {"required": True, "schema": {"const": "Bearer"}}},
    "429": {"retry-after": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}},
}


@cache
def document() -> Json:
    """OpenAPI 3.1."""
    schemas: Json = {"Error": ERROR, "Mesh": PROVENANCE, **SCHEMAS}
    paths: Json = {}
    for path, name, model, answer, summary in _POSTS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
        paths[path] = {"post": _asking(name, summary, model.__name__, answer, streams=name != "embed")}
    schemas["MeshOptions"]["properties"] |= _as_queries(schemas["MeshOptions"]["properties"])
    paths |= _reading()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Synaptic Mesh gateway",
            "version": __version__,
            "description": "OpenAI's API over the experts of a mesh. The header `x-request-id` names the request in "
            "the node's journal: `mesh why` explains it.",
        },
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
        "paths": paths,
    }


def _as_queries(options: Json) -> Json:
    """What is passed on as it is has the bounds of `mesh.experts.queries.Query`."""
    fields = Query.model_json_schema()["properties"]
    return {name: fields[name] for name in options if name in fields and name != "delivery"}


def _asking(name: str, summary: str, body: str, answer: str, *, streams: bool) -> Json:
    content: Json = {"application/json": {"schema": _ref(answer)}}
    if streams:
        summary += "; with `stream` as server-sent events"
        content["text/event-stream"] = {"schema": {"description": "Events as OpenAI's, up to `data: [DONE]`"}}
    good = {"description": "The answer", "content": content, "headers": {"x-request-id": _REQUEST_ID}}
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {"200": good, **_errors({**_ASKING, **_EVERYWHERE})},
    }


def _reading() -> Json:
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    open_document = _reads("openapi", "This document", {"type": "object", "required": ["openapi", "paths"]})
    ready = _reads("readyz", "Whether the node serves", status)
    ready["responses"]["503"] = {**ready["responses"]["200"], "description": "It does not, and why"}
    one = _reads("model", "One of them", _ref("Model"), {"404": "Nobody offers that model"})
    return {
        "/v1/models": {"get": _reads("models", "Every name that can be asked for", _ref("Models"))},
        "/v1/models/{model}": {"get": one, "parameters": [model]},
        "/openapi.json": {"get": _open(open_document)},
        "/healthz": {"get": _open(_reads("healthz", "Whether the process answers", status))},
        "/readyz": {"get": _open(ready)},
    }


def _open(operation: Json) -> Json:
    """No key is asked for."""
    kept = {status: each for status, each in operation["responses"].items() if status not in ("401", "429")}
    return {**operation, "security": [], "responses": kept}


def _reads(name: str, summary: str, answer: Json, errors: dict[str, str] | None = None) -> Json:
    good = {"description": "The answer", "content": {"application/json": {"schema": answer}}}
    responses = {"200": good, **_errors({**(errors or {}), **_EVERYWHERE})}
    return {"operationId": name, "summary": summary, "responses": responses}


def _errors(statuses: dict[str, str]) -> Json:
    content = {"application/json": {"schema": _ref("Error")}}
    return {
        status: {
            "description": text,
            "content": content,
            "headers": {"x-request-id": _REQUEST_ID, **_HEADERS.get(status, {})},
        }
        for status, text in sorted(statuses.items())
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
