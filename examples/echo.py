"""Experts in a few lines of Python: what a callable must look like to join the mesh.

[[experts]]
name = "echo"
backend = "python"
domains = ["language"]
options = { path = "examples/echo.py:echo" }
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

from mesh.experts.calls import AttemptFailed, Call


def echo(content: str) -> str:
    """The same text: a plain function, run in a thread."""
    return content


def words(content: str) -> Iterator[str]:
    """The same text, word by word: a generator, stopped between pieces when the caller goes away."""
    yield from re.findall(r"\s*\S+|\s+$", content)


async def slowly(content: str, call: Call) -> AsyncIterator[str]:
    """The same text, a character at a time, ``options.pause_s`` apart: the whole call is the second argument."""
    pause_s = call.options.get("pause_s", 0.01)
    if not isinstance(pause_s, int | float):
        raise AttemptFailed("invalid", f"pause_s must be a number, not {pause_s!r}")
    for character in content:
        await asyncio.sleep(pause_s)
        yield character
