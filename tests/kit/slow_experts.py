"""Experts for end-to-end tests, called by their import path in the node's own process."""

import asyncio
from collections.abc import AsyncIterator


async def patient(content: str) -> str:
    """Answers ``milliseconds text`` after so many milliseconds."""
    milliseconds, _, text = content.partition(" ")
    await asyncio.sleep(int(milliseconds) / 1000)
    return text


async def dripping(content: str) -> AsyncIterator[str]:
    """Answers each word after 50 ms."""
    for word in content.split():
        await asyncio.sleep(0.05)
        yield word + " "
