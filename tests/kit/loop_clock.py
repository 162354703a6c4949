"""A clock that follows the event loop, so that looptime's virtual time is everybody's time."""

import asyncio

EPOCH = 1_760_000_000.0


class LoopClock:
    """See `mesh.clock.Clock`."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
