"""Who waits for which position to be stored."""

import asyncio
import heapq
import itertools

from mesh.errors import JournalError


class Waiters:
    """Futures by position; `advance` resolves those that are reached, in order."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ties = itertools.count()

    def add(self, position: int) -> "asyncio.Future[None]":
        """A future for ``position``."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (position, next(self._ties), future))
        return future

    def advance(self, position: int) -> None:
        """Everything up to ``position`` is stored."""
        heap = self._heap
        while heap and heap[0][0] <= position:
            future = heapq.heappop(heap)[2]
            if not future.done():
                future.set_result(None)

    def fail(self, error: JournalError) -> None:
        """Nothing more will be stored."""
        for _, _, future in self._heap:
            if not future.done():
                future.set_exception(error)
        self._heap.clear()
