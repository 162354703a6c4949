"""What is written to NATS is written whole."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end, also when who waits for it is cancelled.

    nats-py 2.16 writes no more on a connection once one of its writes or flushes was cancelled in the middle.
    """
    return await asyncio.shield(work)
