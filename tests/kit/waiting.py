"""Waiting for a condition, with a deadline; and for how long a busy machine kept us from it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


async def until(condition: Callable[[], bool], *, within: float = 60.0, what: str = "the condition") -> None:
    """Return once ``condition()`` holds; fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {within:g} s"
        await asyncio.sleep(0.01)


class Pauses:
    """For how long this process was kept from running: what a promise in real time has to allow for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def count(self) -> None:
        """Until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.02)
            late = time.monotonic() - began - 0.02
            self.seconds += late if late > 0.02 else 0.0


@asynccontextmanager
async def counted_pauses() -> AsyncIterator[Pauses]:
    pauses = Pauses()
    counting = asyncio.create_task(pauses.count())
    try:
        yield pauses
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
