"""Parts that live together: begun in order, ended in reverse, and watched meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Any, Protocol

from mesh.errors import MeshError
from mesh.keeper import Keeper


class Part(Protocol):
    """What is begun and ended."""

    async def start(self) -> Any: ...  # noqa: ANN401, D102 - whatever it returns is of no interest here
    async def stop(self) -> Any: ...  # noqa: ANN401, D102


class KeptPart(Part, Protocol):
    """A part without whose background task the node must not go on."""

    keeper: Keeper


class Lifetime:
    """Ends what it began in reverse order, also after a start that failed half-way."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._vital: list[asyncio.Future[Any]] = []
        self._at_first: list[Callable[[], object]] = []

    def hold(self, resource: AbstractContextManager[object]) -> None:
        """Enter ``resource``, and leave it at the end."""
        self._stack.enter_context(resource)

    async def begin(self, part: Part) -> None:
        """Start ``part``."""
        await part.start()
        self.finally_await(part.stop)

    async def begin_kept(self, part: KeptPart) -> None:
        """Start ``part``, and `watch` its keeper."""
        await self.begin(part)
        self.watch(part.keeper.task)

    def finally_await(self, last: Callable[[], Awaitable[object]]) -> None:
        """Await ``last()`` at the end."""
        self._stack.push_async_callback(last)

    def finally_call(self, last: Callable[[], object]) -> None:
        """Call ``last()`` at the end."""
        self._stack.callback(last)

    def first_call(self, first: Callable[[], object]) -> None:
        """Call ``first()`` when the end begins."""
        self._at_first.append(first)

    def watch(self, *tasks: asyncio.Future[Any] | None) -> None:
        """When one of these is done, the whole has `failed`; None is not there to be watched."""
        self._vital += [task for task in tasks if task is not None]

    def watch_for(self, failure: Coroutine[Any, Any, MeshError], name: str) -> None:
        """Watch for a failure that is awaited, until the end."""
        task = asyncio.create_task(failure, name=name)
        self.watch(task)
        self.finally_call(task.cancel)

    async def failed(self) -> MeshError:
        """Return when something has failed without which the rest must not go on."""
        done, _ = await asyncio.wait(self._vital, return_when=asyncio.FIRST_COMPLETED)
        part = done.pop()
        error = None if part.cancelled() else part.exception() or part.result()
        if isinstance(error, MeshError):
            return error
        return MeshError(f"a part of the node ended: {error!r}", remedy="This is a defect; the log says more.")

    async def end(self) -> None:
        """End everything; again: no-op."""
        while self._at_first:
            self._at_first.pop()()
        await self._stack.aclose()
