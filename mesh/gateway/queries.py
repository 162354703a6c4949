"""Clients' bodies as queries of the mesh. Pure."""

import json
from typing import Any

from mesh.experts.chat import CHAT_FIELDS
from mesh.gateway.bodies import ChatBody, Completion, CompletionBody, EmbeddingsBody, MeshOptions, ResponsesBody
from mesh.gateway.models import Choice
from mesh.gateway.problems import Problem

_SAMPLING = ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty", "max_tokens")
Fields = dict[str, Any]


def chat_query(body: ChatBody, choice: Choice, caller: str) -> Fields:
    """The query of a chat completion."""
    chat = {name: value for name in CHAT_FIELDS if (value := getattr(body, name)) is not None}
    options = _sampling(body)
    if body.max_completion_tokens is not None:
        options["max_tokens"] = body.max_completion_tokens
    return {**_common(choice, caller, body.mesh), "chat": chat, "options": options}


def completion_queries(body: CompletionBody, choice: Choice, caller: str) -> list[Fields]:
    """The queries of a completion, one a prompt."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not 1 <= len(prompts) <= 16:
        raise Problem(400, f"prompt has {len(prompts)} entries; 1 to 16 are taken", code="invalid", param="prompt")
    common = {**_common(choice, caller, body.mesh), "options": _sampling(body)}
    return [{**common, "content": prompt} for prompt in prompts]


def embeddings_query(texts: list[str], body: EmbeddingsBody, choice: Choice, caller: str) -> Fields:
    """The query of embeddings."""
    content = json.dumps(texts, ensure_ascii=True, separators=(",", ":"))
    return {**_common(choice, caller, body.mesh), "content": content, "task": "embed"}


def responses_query(body: ResponsesBody, choice: Choice, caller: str) -> Fields:
    """The query of a response: its items as messages, its tools as those of a chat."""
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    messages = [{"role": "system", "content": body.instructions}] if body.instructions else []
    messages += [_message(item, place) for place, item in enumerate(items)]
    chat: Fields = {"messages": messages}
    if body.tools:
        chat["tools"] = [_tool(tool, place) for place, tool in enumerate(body.tools)]
        for name in ("tool_choice", "parallel_tool_calls"):
            if getattr(body, name) is not None:
                chat[name] = getattr(body, name)
    options = {name: getattr(body, name) for name in ("temperature", "top_p") if getattr(body, name) is not None}
    if body.max_output_tokens is not None:
        options["max_tokens"] = body.max_output_tokens
    return {**_common(choice, caller, body.mesh), "chat": chat, "options": options}


def _common(choice: Choice, caller: str, mesh: MeshOptions) -> Fields:
    fields: Fields = {"expert": choice.expert, "domain": choice.domain or "auto", "caller": caller}
    given = {name: value for name, value in mesh.model_dump().items() if value}
    return {**fields, **given}


def _sampling(body: Completion) -> Fields:
    return {name: value for name in _SAMPLING if (value := getattr(body, name)) is not None}


def _message(item: dict[str, Any], place: int) -> Fields:
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": _content(item.get("content"))}
    if kind == "function_call":
        call = {"name": str(item.get("name", "")), "arguments": str(item.get("arguments", ""))}
        calls = [{"id": str(item.get("call_id", "")), "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": str(item.get("call_id", "")), "content": str(item.get("output", ""))}
    message = f"input[{place}] has the type {kind!r}; message, function_call and function_call_output are taken"
    raise Problem(400, message, code="invalid", param=f"input.{place}")


def _content(content: object) -> object:
    if not isinstance(content, list):
        return content
    texts = ("input_text", "output_text")
    return [
        {"type": "text", "text": part.get("text", "")} if isinstance(part, dict) and part.get("type") in texts else part
        for part in content
    ]


def _tool(tool: dict[str, Any], place: int) -> Fields:
    if tool.get("type") != "function":
        message = f"tools[{place}] has the type {tool.get('type')!r}; functions are what experts take"
        raise Problem(400, message, code="invalid", param=f"tools.{place}")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if name in tool}}
