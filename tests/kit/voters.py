"""Experts that add one, and one that says that it did."""

import random


async def honest(content: str) -> str:
    """The number after, in whatever dress."""
    return random.choice(["{}", " {} ", "The answer is {}."]).format(int(content) + 1)


async def liar(content: str) -> str:
    """At once, and wrong."""
    return str(int(content) + 2)


async def astronomer(_content: str) -> str:
    """The same each time, in other words."""
    ways = ("Mars is a planet {}", "The planet Mars is {}", "It is Mars, a planet that is {}")
    return random.choice(ways).format("far from the sun")


async def crank(_content: str) -> str:
    """At once, and wrong."""
    return "Mars is made of green cheese"
