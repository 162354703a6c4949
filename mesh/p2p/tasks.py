"""Tasks that have an owner: their failures are seen, and none outlives it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


def _report(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)


class TaskOwner:
    """Starts tasks, hears of each failure (``on_failure(task name, error)``; by default the log), and ends them."""

    def __init__(self, on_failure: Callable[[str, BaseException], None] = _report) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` beside everything else."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(task.get_name(), error)

    async def end(self) -> None:
        """Cancel all of them and return when they have ended."""
        while tasks := self._tasks - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
