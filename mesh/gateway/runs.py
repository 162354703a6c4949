"""One request of a client while it runs: its pieces as they come, its end, and what ends it when nobody listens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from starlette.types import Receive

from mesh.experts.calls import Emit
from mesh.experts.queries import Outcome

# Pieces that may wait for a slow client before the expert is held back.
_AHEAD = 4


class Ask(Protocol):
    """`mesh.experts.requests.Requests.ask`."""

    async def __call__(
        self, query: dict[str, Any], emit: Emit | None = None, *, taken: Callable[[str], None] = ...
    ) -> Outcome:
        """Answer a query."""
        ...


class ClientGone(Exception):
    """The client hung up before its answer was ready."""


class Run:
    """A streamed request. ``async with`` cancels it when the block is left before its end."""

    def __init__(self, ask: Ask, query: dict[str, Any]) -> None:
        self.request = ""
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue(_AHEAD)
        self._task = asyncio.create_task(self._run(ask, query), name="a streamed request")

    async def __aenter__(self) -> "Run":
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._task.done():
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def pieces(self) -> AsyncIterator[str]:
        """Pieces of the answer, as they come. What went wrong is raised by `outcome`."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def outcome(self) -> Outcome:
        """The end. Raises what `Requests.ask` raises."""
        return await self._task

    async def _run(self, ask: Ask, query: dict[str, Any]) -> Outcome:
        try:
            outcome = await ask(query, self._pieces.put, taken=self._taken)
        except Exception:
            await self._pieces.put(None)
            raise
        await self._pieces.put(None)
        return outcome

    def _taken(self, request: str) -> None:
        self.request = request


async def unless_gone(receive: Receive, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the work gives
    """The work's result; when the client hangs up first the work is cancelled and ClientGone raised.

    So is it when ``receive`` fails, whose error is then raised.
    """
    worker = asyncio.current_task()
    assert worker is not None
    gone = asyncio.create_task(_cancel_when_gone(receive, worker), name="watch the client")
    try:
        return await work
    except asyncio.CancelledError:
        if gone.done() and worker.uncancel() == 0:
            raise gone.exception() or ClientGone from None
        raise
    finally:
        gone.cancel()


async def _cancel_when_gone(receive: Receive, worker: "asyncio.Task[Any]") -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception:
        worker.cancel()
        raise
    worker.cancel()
