"""Experts that cost nothing, so that what is measured is the way to them."""

import asyncio
import time
from collections.abc import AsyncIterator

BRIEF_S = 0.02
BETWEEN_S = 0.1


async def answer(text: str) -> str:
    """What it was asked."""
    return text


async def brief(text: str) -> str:
    """The same after a moment, in which the request is under way."""
    await asyncio.sleep(BRIEF_S)
    return text


async def timed_pieces(_text: str) -> AsyncIterator[str]:
    """Two pieces, each the time at which it was made: nanoseconds of the machine's monotonic clock, and a blank."""
    yield f"{time.monotonic_ns()} "
    await asyncio.sleep(BETWEEN_S)
    yield f"{time.monotonic_ns()} "
