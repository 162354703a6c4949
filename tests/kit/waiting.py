"""Waiting for a condition, with a deadline."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, within: float = 30.0, what: str = "the condition") -> None:
    """Return once ``condition()`` holds; fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {within:g} s"
        await asyncio.sleep(0.01)
