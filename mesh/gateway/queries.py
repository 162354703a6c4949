"""Clients' bodies as queries of the mesh. Pure."""

import json
from typing import Any

from mesh.experts.chat import CHAT_FIELDS
from mesh.gateway.bodies import (
    ChatBody,
    Completion,
    CompletionBody,
    EmbeddingsBody,
    FunctionCall,
    FunctionTool,
    InputItem,
    InputMessage,
    MeshOptions,
    ResponsesBody,
)
from mesh.gateway.models import Choice

_SAMPLING = ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty", "max_tokens")
Fields = dict[str, Any]


def chat_query(body: ChatBody, choice: Choice, caller: str) -> Fields:
    """The query of a chat completion."""
    chat = {name: value for name in CHAT_FIELDS if (value := getattr(body, name)) is not None}
    options = _sampling(body)
    if body.max_completion_tokens is not None:
        options["max_tokens"] = body.max_completion_tokens
    return {**_common(choice, caller, body.mesh, body.user), "chat": chat, "options": options}


def completion_queries(body: CompletionBody, choice: Choice, caller: str) -> list[Fields]:
    """The queries of a completion, one a prompt."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    common = {**_common(choice, caller, body.mesh, body.user), "options": _sampling(body)}
    return [{**common, "content": prompt} for prompt in prompts]


def embeddings_query(texts: list[str], body: EmbeddingsBody, choice: Choice, caller: str) -> Fields:
    """The query of embeddings."""
    content = json.dumps(texts, ensure_ascii=True, separators=(",", ":"))
    return {**_common(choice, caller, body.mesh), "content": content, "task": "embed"}


def responses_query(body: ResponsesBody, choice: Choice, caller: str) -> Fields:
    """The query of a response: its items as messages, its tools as those of a chat."""
    items = [InputMessage(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    messages = [{"role": "system", "content": body.instructions}] if body.instructions else []
    messages += [_message(item) for item in items]
    chat: Fields = {"messages": messages}
    if body.tools:
        chat["tools"] = [_tool(tool) for tool in body.tools]
        for name in ("tool_choice", "parallel_tool_calls"):
            if getattr(body, name) is not None:
                chat[name] = getattr(body, name)
    options = {name: getattr(body, name) for name in ("temperature", "top_p") if getattr(body, name) is not None}
    if body.max_output_tokens is not None:
        options["max_tokens"] = body.max_output_tokens
    return {**_common(choice, caller, body.mesh, body.user), "chat": chat, "options": options}


def _common(choice: Choice, caller: str, mesh: MeshOptions, user: str | None = None) -> Fields:
    fields: Fields = {"expert": choice.expert, "domain": choice.domain or "auto", "caller": caller}
    if user:
        fields["conversation"] = user
    given = {name: value for name in mesh.model_fields_set if (value := getattr(mesh, name))}
    return {**fields, **given}


def _sampling(body: Completion) -> Fields:
    return {name: value for name in _SAMPLING if (value := getattr(body, name)) is not None}


def _message(item: InputItem) -> Fields:
    if isinstance(item, InputMessage):
        return {"role": item.role, "content": _content(item.content)}
    if isinstance(item, FunctionCall):
        call = {"name": item.name, "arguments": item.arguments}
        calls = [{"id": item.call_id, "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    output = item.output if isinstance(item.output, str) else json.dumps(item.output)
    return {"role": "tool", "tool_call_id": item.call_id, "content": output}


def _content(content: object) -> object:
    if not isinstance(content, list):
        return content
    texts = ("input_text", "output_text")
    return [
        {"type": "text", "text": part.get("text", "")} if isinstance(part, dict) and part.get("type") in texts else part
        for part in content
    ]


def _tool(tool: FunctionTool) -> Fields:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_unset=True)}
