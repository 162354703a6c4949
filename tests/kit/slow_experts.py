"""Experts for end-to-end tests, called by their import path in the node's own process."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path


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


async def until_cancelled(path: str) -> str:
    """Works for ever; the file says when it began and when it was told to stop (Unix seconds)."""
    file = Path(path)
    file.write_text("began\n")
    try:
        await asyncio.Event().wait()
    finally:
        file.write_text(f"{time.time()}\n")
    return ""


async def breaking(content: str) -> AsyncIterator[str]:
    """Answers the words and then breaks."""
    for word in content.split():
        yield word + " "
        await asyncio.sleep(0.05)
    raise RuntimeError("broke in the middle")


async def held(directory: str) -> AsyncIterator[str]:
    """One piece at once, whose time is in the file ``made``; the other once there is a file ``go``."""
    place = Path(directory)
    (place / "made").write_text(f"{time.time()}")
    yield "first "
    while not (place / "go").exists():
        await asyncio.sleep(0.02)
    yield "second"


async def counting(content: str) -> AsyncIterator[str]:
    """``path number``: so many pieces of 16 bytes; the file says how many were taken, about."""
    path, _, number = content.partition(" ")
    for made in range(int(number)):
        yield f"{made:15} "
        if made % 100 == 0:
            Path(path).write_text(str(made))


async def ceaseless(path: str) -> AsyncIterator[str]:
    """Counts for ever, as fast as it is let; the file says how far it is."""
    file, number = Path(path), 0
    while True:
        number += 1
        file.write_text(str(number))
        yield f"{number} "
        await asyncio.sleep(0)


async def pouring(content: str) -> AsyncIterator[str]:
    """``mebibytes``: so much text, in pieces of 64 KiB that are all different."""
    for number in range(int(content) * 16):
        yield f"{number:015} ".ljust(65536, "x")
