"""Outcomes of the mesh as OpenAI's objects: whole, and in pieces. Pure: the id and the time are given."""

import base64
import json
import struct
from typing import Any

import msgspec

from mesh.experts.queries import Outcome

Json = dict[str, Any]
_ENDS = ("stop", "length", "tool_calls", "content_filter")


def usage(*outcomes: Outcome) -> Json | None:
    """The tokens as the experts counted them; None where one did not."""
    if any(outcome.tokens_in < 0 or outcome.tokens_out < 0 for outcome in outcomes):
        return None
    prompt, made = sum(each.tokens_in for each in outcomes), sum(each.tokens_out for each in outcomes)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def message_of(outcome: Outcome) -> Json:
    """The assistant's message."""
    if outcome.format == "message":
        message = json.loads(outcome.text)
        return {"role": "assistant", "content": message.get("content"), "tool_calls": message["tool_calls"]}
    return {"role": "assistant", "content": outcome.text, "refusal": None}


def finish_of(outcome: Outcome) -> str:
    """Why the answer ended, in OpenAI's words."""
    if outcome.format == "message":
        return "tool_calls"
    return outcome.finish_reason if outcome.finish_reason in _ENDS else "stop"


def provenance(outcome: Outcome) -> Json:
    """``mesh``: how the answer came about, beside what OpenAI's clients expect."""
    return {
        "request": outcome.request,
        "strategy": outcome.strategy,
        "policy": outcome.policy,
        "domain": outcome.domain,
        "expert": outcome.expert,
        "model": outcome.model,
        "peers": list(outcome.peers),
        "attempts": outcome.attempts,
        "agreement": outcome.agreement,
        "latency_ms": outcome.latency_ms,
        "fallback": outcome.fallback,
        "cached_from": outcome.cached_from,
        **({"consensus": _consensus(outcome)} if outcome.count is not None else {}),
        **({"parts": msgspec.to_builtins(outcome.parts)} if outcome.parts else {}),
    }


def _consensus(outcome: Outcome) -> Json:
    return {"count": msgspec.to_builtins(outcome.count), "votes": msgspec.to_builtins(outcome.votes)}


class ChatAnswer:
    """One chat completion."""

    def __init__(self, model: str, created: int) -> None:
        self._model = model
        self._created = created

    def whole(self, outcome: Outcome) -> Json:
        """The object ``chat.completion``."""
        choice = {
            "index": 0,
            "message": message_of(outcome),
            "logprobs": None,
            "finish_reason": finish_of(outcome),
        }
        head = self._head("chat.completion", outcome.request)
        return {**head, "choices": [choice], "usage": usage(outcome), "mesh": provenance(outcome)}

    def begin(self, request: str) -> Json:
        """The first chunk: who speaks."""
        return self._chunk(request, {"role": "assistant", "content": ""})

    def piece(self, request: str, text: str) -> Json:
        """A chunk of text."""
        return self._chunk(request, {"content": text})

    def end(self, outcome: Outcome) -> list[Json]:
        """What follows the text: calls of tools, and why it ended."""
        chunks = []
        if outcome.format == "message":
            calls = [{"index": index, **call} for index, call in enumerate(message_of(outcome)["tool_calls"])]
            chunks.append(self._chunk(outcome.request, {"tool_calls": calls}))
        return [*chunks, self._chunk(outcome.request, {}, finish_of(outcome))]

    def usage(self, outcome: Outcome) -> Json:
        """The last chunk, where it was asked for."""
        head = self._head("chat.completion.chunk", outcome.request)
        return {**head, "choices": [], "usage": usage(outcome), "mesh": provenance(outcome)}

    def _chunk(self, request: str, delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk", request), "choices": [choice]}

    def _head(self, kind: str, request: str) -> Json:
        return {"id": f"chatcmpl-{request}", "object": kind, "created": self._created, "model": self._model}


class TextAnswer:
    """One completion of a prompt, or of several."""

    def __init__(self, model: str, created: int) -> None:
        self._model = model
        self._created = created

    def whole(self, *outcomes: Outcome) -> Json:
        """The object ``text_completion``; its id is the first request's."""
        choices = [self._choice(index, each.text, finish_of(each)) for index, each in enumerate(outcomes)]
        whole = {**self._head(outcomes[0].request), "choices": choices, "usage": usage(*outcomes)}
        if len(outcomes) == 1:
            return {**whole, "mesh": provenance(outcomes[0])}
        for choice, outcome in zip(choices, outcomes, strict=True):
            choice["mesh"] = provenance(outcome)
        return whole

    def begin(self, request: str) -> Json:
        """The first chunk."""
        return self.piece(request, "")

    def piece(self, request: str, text: str) -> Json:
        """A chunk of text."""
        return {**self._head(request), "choices": [self._choice(0, text, None)]}

    def end(self, outcome: Outcome) -> list[Json]:
        """Why it ended."""
        return [{**self._head(outcome.request), "choices": [self._choice(0, "", finish_of(outcome))]}]

    def usage(self, outcome: Outcome) -> Json:
        """The last chunk, where it was asked for."""
        return {**self._head(outcome.request), "choices": [], "usage": usage(outcome), "mesh": provenance(outcome)}

    def _choice(self, index: int, text: str, finish: str | None) -> Json:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}

    def _head(self, request: str) -> Json:
        return {"id": f"cmpl-{request}", "object": "text_completion", "created": self._created, "model": self._model}


def embeddings(model: str, outcome: Outcome, encoding: str) -> Json:
    """The object of ``/v1/embeddings``. Raises ValueError when what the expert said is no list of vectors."""
    vectors = json.loads(outcome.text)
    if not isinstance(vectors, list) or not all(isinstance(vector, list) for vector in vectors):
        raise ValueError("the expert's answer is not a list of vectors")
    packed = [_packed(vector) for vector in vectors] if encoding == "base64" else vectors
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(packed)]
    tokens = max(0, outcome.tokens_in)
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "mesh": provenance(outcome),
    }


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
