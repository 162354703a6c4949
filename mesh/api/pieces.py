"""An answer that is read while it is made."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from inspect import isawaitable
from typing import Any, TypedDict

from mesh.errors import MeshError
from mesh.experts.queries import Outcome

OnText = Callable[[str], Awaitable[object] | object]


async def tell(on_text: OnText, text: str) -> None:
    """Hand a piece to who listens, and wait where that takes time."""
    waiting = on_text(text)
    if isawaitable(waiting):
        await waiting


class How(TypedDict, total=False):
    """The choices of `mesh.api.client.Mesh.ask`; what is left out is as the node is configured."""

    domain: str
    expert: str
    strategy: str
    policy: str
    fan_out: int
    timeout: float
    delivery: str
    conversation: str
    cache: str
    keep: str
    split: str
    parts: Sequence[str | Mapping[str, str]]
    options: dict[str, Any]


class Pieces:
    """Iterates over an answer. Asked at the first step; ended by its end, `aclose`, or by being forgotten."""

    def __init__(self, ask: Callable[[OnText], Coroutine[Any, Any, Outcome]]) -> None:
        self._ask = ask
        self._waiting: asyncio.Queue[str] = asyncio.Queue(1)
        self._task: asyncio.Task[Outcome] | None = None

    @property
    def outcome(self) -> Outcome:
        """How the answer came about. Raises MeshError before the last piece was read."""
        if self._task is None or not self._task.done():
            raise MeshError("the answer has not ended yet", remedy="Read its pieces to the end first.")
        return self._task.result()

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> str:
        if self._task is None:
            self._task = asyncio.create_task(self._ask(self._waiting.put), name="a streamed answer")
        getting = asyncio.ensure_future(self._waiting.get())
        try:
            await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done() or not self._waiting.empty():
                return await getting
        finally:
            getting.cancel()
        self._task.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Take the request back, if it is still under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def __aenter__(self) -> "Pieces":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._task is not None and not self._task.done() and not self._task.get_loop().is_closed():
            self._task.cancel()
