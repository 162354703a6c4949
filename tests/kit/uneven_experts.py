"""An expert that becomes slow while a file is there, for end-to-end tests."""

import asyncio
import os
import random
from pathlib import Path

SLOW_S = 2.0
QUICKEST_S, SLOWEST_S = 0.04, 0.12


async def steady(content: str) -> str:
    """Answers after 40 to 120 ms."""
    await asyncio.sleep(random.uniform(QUICKEST_S, SLOWEST_S))
    return content


async def limping(content: str) -> str:
    """The same, and two seconds more while the file that ``SLOW_WHILE`` names is there."""
    if Path(os.environ["SLOW_WHILE"]).exists():
        await asyncio.sleep(SLOW_S)
    return await steady(content)
