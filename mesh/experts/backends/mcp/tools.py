"""Which tool of an MCP server a request means, with which arguments, and what its result says. Pure."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mesh.experts.calls import AttemptFailed, Call

MAX_TOOLS = 1000
LISTING = ("tools", "list tools")


class Tool(NamedTuple):
    """What a server says of one of its tools. ``repeatable``: calling it twice does no more than calling it once."""

    name: str
    description: str
    schema: dict[str, Any]
    repeatable: bool

    @property
    def text_parameter(self) -> str:
        """The parameter that takes the text of a request: the only one that must be given, or the only one."""
        properties = self.schema.get("properties")
        required = self.schema.get("required")
        names = list(properties) if isinstance(properties, dict) else []
        needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        only = needed if len(needed) == 1 else names if len(names) == 1 else []
        return only[0] if only and _takes_text(properties, only[0]) else ""


def tools_in(page: Mapping[str, Any]) -> list[Tool]:
    """The tools of one answer to ``tools/list``; what is no tool is left out."""
    found = []
    for entry in page.get("tools") or () if isinstance(page.get("tools"), list) else ():
        match entry:
            case {"name": str(name), **rest} if 0 < len(name) <= 128:
                schema, hints = rest.get("inputSchema"), rest.get("annotations")
                hints = hints if isinstance(hints, dict) else {}
                repeatable = hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True
                description = str(rest.get("description") or "")[:1000]
                found.append(Tool(name, description, schema if isinstance(schema, dict) else {}, repeatable))
    return found


def listing(tools: Mapping[str, Tool]) -> str:
    """All tools as JSON, as a model wants to be told of them."""
    entries = [{"name": t.name, "description": t.description, "inputSchema": t.schema} for t in tools.values()]
    return json.dumps(entries, ensure_ascii=False)


def understand(call: Call, tools: Mapping[str, Tool]) -> tuple[Tool, dict[str, Any]]:
    """The tool and its arguments. Raises AttemptFailed ``invalid`` that names the tools."""
    name, arguments = _named(call, tools)
    tool = tools.get(name)
    if tool is None:
        known = ", ".join(list(tools)[:20])
        what = f"there is no tool {name[:64]!r}" if name else "no tool is named"
        raise AttemptFailed("invalid", f"{what}; write `tool: text` or `tool {{arguments}}`. The tools are: {known}")
    if isinstance(arguments, dict):
        return tool, arguments
    if not arguments:
        return tool, {}
    if not tool.text_parameter:
        wanted = ", ".join(tool.schema.get("properties") or ()) or "nothing"
        raise AttemptFailed("invalid", f"{tool.name} takes its arguments as a JSON object: {wanted}")
    return tool, {tool.text_parameter: arguments}


def _named(call: Call, tools: Mapping[str, Tool]) -> tuple[str, "dict[str, Any] | str"]:
    if "tool" in call.options:
        arguments: object = call.options.get("arguments", call.content)
        return str(call.options["tool"]), arguments if isinstance(arguments, dict) else str(arguments)
    text = call.content.strip()
    match _object(text):
        case {"tool": str(name), **rest} | {"name": str(name), **rest}:
            given = rest.get("arguments", {})
            return name, given if isinstance(given, dict) else {}
    head = text.split(maxsplit=1)
    name = head[0].rstrip(":") if head else ""
    if name in tools:
        rest_of_it = head[1] if len(head) > 1 else ""
        return name, _object(rest_of_it) or rest_of_it
    only = next(iter(tools.values())) if len(tools) == 1 else None
    return (only.name, text) if only and only.text_parameter and text else (name, "")


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def text_of(tool: Tool, result: Mapping[str, Any]) -> str:
    """What a result of ``tools/call`` says. Raises AttemptFailed for one that is an error, or no result."""
    content = result.get("content")
    if not isinstance(content, list):
        raise AttemptFailed("failed", f"{tool.name} gave no content", retryable=tool.repeatable)
    parts = [_part(entry) for entry in content]
    if not parts and "structuredContent" in result:
        parts = [json.dumps(result["structuredContent"], ensure_ascii=False)]
    text = "\n".join(parts)
    if result.get("isError") is True:
        raise AttemptFailed("failed", f"{tool.name}: {text[:400] or 'no reason was given'}", retryable=False)
    return text


def _part(entry: object) -> str:
    match entry:
        case {"type": "text", "text": str(text)}:
            return text
    return json.dumps(entry, ensure_ascii=False)


def _takes_text(properties: object, name: str) -> bool:
    about = properties.get(name) if isinstance(properties, dict) else None
    kind = about.get("type", "string") if isinstance(about, dict) else None
    return kind == "string" or (isinstance(kind, list) and "string" in kind)
