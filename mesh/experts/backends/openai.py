"""An OpenAI-compatible HTTP endpoint as an expert: Ollama, llama.cpp, vLLM, or a service."""

import json
import os
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
from pydantic import Field, JsonValue, model_validator

from mesh.errors import MeshError
from mesh.experts.backend import Kind, Options
from mesh.experts.backends.messages import ToolCalls, texts_of
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit, FailureKind

# What a call may pass on to the model, besides its text.
_PASSED_ON = ("max_tokens", "temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty")
_DATA = "data:"
_MAX_ERROR = 300
# Not the fault of the input: the key, the model's name or the server's patience.
_UNAVAILABLE = (401, 403, 404, 407, 408)


class OpenAIOptions(Options):
    """``options`` of ``backend = "openai"``."""

    base_url: str = Field(
        pattern=r"^https?://", description="Up to and with /v1, for example http://127.0.0.1:11434/v1"
    )
    model: str = Field(default="", description="The model's name at that endpoint")
    models: Literal["", "auto"] = Field(default="", description="auto, in place of `model`: an expert for each model")
    only: list[str] = Field(default=[], description="With auto: patterns of which a model matches one; empty: all")
    embedding_models: list[str] = Field(
        default=["*embed*"], description="With auto: patterns of models that make embeddings, and nothing else"
    )
    api_key_env: str = Field(default="", description="Environment variable that holds the API key; empty: none")
    system: str = Field(default="", description="System prompt")
    defaults: dict[str, JsonValue] = Field(default={}, description="Body fields for every call, e.g. temperature")
    connect_timeout_s: float = Field(default=5.0, gt=0)
    tools: bool = Field(default=False, description="The model takes tools")
    embeddings: bool = Field(default=False, description="The model makes embeddings, and nothing else")
    proxy: str = Field(default="", description="HTTP proxy; the environment's is not used")

    @model_validator(mode="after")
    def _is_one_model_or_all(self) -> "OpenAIOptions":
        if bool(self.model) == bool(self.models):
            raise ValueError('it takes either model, or models = "auto"')
        return self


class OpenAIBackend:
    """Streams ``/v1/chat/completions``. Cancelling closes the connection, which stops the model."""

    def __init__(self, options: OpenAIOptions, concurrency: int) -> None:
        self.model = options.model
        self.features = _features(options)
        self._options = options
        self._concurrency = concurrency
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Get ready to connect. Raises MeshError when the API key's variable is not set."""
        headers = {}
        if name := self._options.api_key_env:
            key = os.environ.get(name, "")
            if not key:
                raise MeshError(f"the environment variable {name} is not set", remedy="Set it to the API key.")
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            base_url=self._options.base_url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=self._options.connect_timeout_s),
            # A connection a call: one that is kept may be closed by the server just as the next call goes out.
            limits=httpx.Limits(max_connections=self._concurrency + 1, max_keepalive_connections=0),
            proxy=self._options.proxy or None,
            trust_env=False,
        )

    async def stop(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def check(self) -> None:
        """Ask for the list of models. Raises MeshError when it does not come, or lacks ours."""
        listed = await self.listed()
        if listed and not any(name in (self.model, f"{self.model}:latest") for name in listed):
            raise MeshError(
                f"{self._options.base_url} does not have the model {self.model!r}",
                remedy=f"It has: {', '.join(listed[:10])}.",
            )

    async def listed(self) -> list[str]:
        """The models that the server says it has. Raises MeshError."""
        assert self._client is not None
        try:
            response = await self._client.get("models")
            response.raise_for_status()
            return [str(each["id"]) for each in response.json().get("data") or []]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MeshError(
                f"{self._options.base_url}/models does not answer as it should: {_named(error)}",
                remedy="Start the model server, or correct options.base_url.",
            ) from None

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Stream the answer. Options of the call are passed on; ``system`` and ``messages`` replace the prompt's."""
        if (call.task == "embed") != self._options.embeddings:
            raise AttemptFailed("invalid", f"{self.model} does not {call.task}")
        if call.task == "embed":
            return await self._embed(call)
        assert self._client is not None
        pieces: list[str] = []
        usage: dict[str, Any] = {}
        model, finish = self.model, ""
        tools = ToolCalls()
        try:
            async with self._client.stream("POST", "chat/completions", json=self._body(call)) as response:
                await _raise_for_status(response)
                async for chunk in _chunks(response):
                    usage = chunk.get("usage") or usage
                    model = str(chunk.get("model") or model)
                    finish = _finish_of(chunk) or finish
                    tools.add(chunk)
                    if piece := _piece_of(chunk):
                        pieces.append(piece)
                        await emit(piece)
        except httpx.HTTPError as error:
            raise AttemptFailed("unavailable", f"{self._options.base_url}: {_named(error)}") from error
        text = "".join(pieces)
        return Answer(
            text=tools.message(text) if tools else text,
            model=model,
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
            format="message" if tools else "text",
            finish_reason=finish[:32],
        )

    async def _embed(self, call: Call) -> Answer:
        assert self._client is not None
        body = {**self._options.defaults, "model": self.model, "input": texts_of(call), "encoding_format": "float"}
        try:
            response = await self._client.post("embeddings", json=body)
            await _raise_for_status(response)
            made = response.json()
            vectors = [entry["embedding"] for entry in sorted(made["data"], key=lambda entry: entry["index"])]
            usage = made.get("usage") or {}
            text = json.dumps(vectors, separators=(",", ":"), allow_nan=False)
        except httpx.HTTPError as error:
            raise AttemptFailed("unavailable", f"{self._options.base_url}: {_named(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AttemptFailed("failed", f"the model server sent no embeddings: {_named(error)}") from error
        return Answer(text=text, model=self.model, tokens_in=_count(usage.get("prompt_tokens")), tokens_out=0)

    def _body(self, call: Call) -> dict[str, Any]:
        system = call.options.get("system", self._options.system)
        prompt: list[JsonValue] = [{"role": "system", "content": system}] if system else []
        messages = call.options.get("messages") or [*prompt, {"role": "user", "content": call.content}]
        chat = json.loads(call.chat) if call.chat else {}
        return {
            **self._options.defaults,
            **{name: value for name, value in chat.items() if name != "messages"},
            **{name: call.options[name] for name in _PASSED_ON if name in call.options},
            "model": self.model,
            "messages": chat.get("messages", messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def _raise_for_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    status = response.status_code
    kind: FailureKind = "failed"
    if status == 429:
        kind = "overloaded"
    elif status in _UNAVAILABLE or status in (502, 503, 504):
        kind = "unavailable"
    elif 400 <= status < 500:
        kind = "invalid"
    body = (await response.aread()).decode(errors="replace")
    raise AttemptFailed(kind, f"HTTP {status} from {response.url.host}: {_error_in(body)}")


async def _chunks(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to ``[DONE]``."""
    async for line in response.aiter_lines():
        data = line.removeprefix(_DATA).strip()
        if not line.startswith(_DATA) or not data:
            continue
        if data == "[DONE]":
            return
        chunk = _decoded(data)
        if "error" in chunk:
            raise AttemptFailed("failed", f"the model server reports: {_error_in(data)}")
        yield chunk
    raise AttemptFailed("unavailable", "the model server ended its stream before the answer was complete")


def _decoded(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise AttemptFailed("failed", f"the model server sent {data[:80]!r}, not a JSON object")
    return chunk


def _piece_of(chunk: dict[str, Any]) -> str:
    match chunk:
        case {"choices": [{"delta": {"content": str(piece)}}, *_]}:
            return piece
    return ""


def _finish_of(chunk: dict[str, Any]) -> str:
    match chunk:
        case {"choices": [{"finish_reason": str(reason)}, *_]}:
            return reason
    return ""


def _error_in(body: str) -> str:
    try:
        message = json.loads(body)["error"]
        message = message["message"] if isinstance(message, dict) else message
    except (ValueError, KeyError, TypeError):
        message = body
    return " ".join(str(message).split())[:_MAX_ERROR] or "no message"


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else -1


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _features(options: OpenAIOptions) -> tuple[str, ...]:
    if options.embeddings:
        return ("embeddings",)
    return ("chat", "tools") if options.tools else ("chat",)


KIND = Kind(OpenAIOptions, OpenAIBackend)
