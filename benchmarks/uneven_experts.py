"""Experts whose answers take known times, nine of ten short and one long, and what may be wrong with one of several.

A question is ``FILE anything``: the trouble lasts while there is such a file.
"""

import asyncio
import random
from pathlib import Path

SHORT_S = (0.05, 0.1)
LONG_S = (0.2, 0.25)
LONG = 0.1
TIMES_SLOWER = 10
FAILING = 0.3


async def well(question: str) -> str:
    """What it was asked, after 50 to 100 ms, or 200 to 250 ms."""
    await asyncio.sleep(_usual_s())
    return question


async def slow(question: str) -> str:
    """The same, ten times slower in trouble."""
    await asyncio.sleep(_usual_s() * (TIMES_SLOWER if _in_trouble(question) else 1))
    return question


async def failing(question: str) -> str:
    """The same, but that in trouble three of ten questions have no answer in the end."""
    await asyncio.sleep(_usual_s())
    if _in_trouble(question) and random.random() < FAILING:
        raise RuntimeError("as drawn")
    return question


def _usual_s() -> float:
    return random.uniform(*(LONG_S if random.random() < LONG else SHORT_S))


def _in_trouble(question: str) -> bool:
    return Path(question.partition(" ")[0]).exists()
