"""Experts that add one, and one that says that it did."""

import random


async def honest(content: str) -> str:
    """The number after, in whatever dress."""
    return random.choice(["{}", " {} ", "The answer is {}."]).format(int(content) + 1)


async def liar(content: str) -> str:
    """At once, and wrong."""
    return str(int(content) + 2)
