"""Which tool takes a request. Each tool reads the call's options, or its text, or leaves it to the next."""

from collections.abc import Callable
from typing import Any

from mesh.experts.backends.tools import dates, json_query, units

# Returns the answer, or None when the request is not for this tool. Raises ValueError when it is, and is wrong.
Tool = Callable[[str, dict[str, Any]], str | None]

TOOLS: dict[str, Tool] = {"convert": units.answer, "date": dates.answer, "jmespath": json_query.answer}
CAN = (
    'They can: "convert 5 miles to km", "days between 2024-01-01 and 2024-03-01", "what weekday is 2026-11-22", '
    '"add 90 days to 2026-01-15", "jmespath: people[?age > `30`].name in {...}".'
)
_MAX_CHARACTERS = 1 << 20


def answer(content: str, options: dict[str, Any]) -> str:
    """The answer of the tool that ``options.tool`` names, or of the first that takes the text. Raises ValueError."""
    try:
        return _run(content, options)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"tools: {error}. {CAN}") from None


def _run(content: str, options: dict[str, Any]) -> str:
    if len(content) > _MAX_CHARACTERS:
        raise ValueError(f"the request has {len(content)} characters, the limit is {_MAX_CHARACTERS}")
    named = options.get("tool")
    if named is not None and (not isinstance(named, str) or named not in TOOLS):
        raise ValueError(f"{named!r} is not one of {', '.join(TOOLS)}")
    for name, tool in TOOLS.items():
        if named in (None, name) and (found := tool(content, options if named else {})) is not None:
            return found
    raise ValueError("no tool understands this request")
