"""The one task of a part that goes on for as long as the part runs."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Keeper:
    """Runs a part's work in the background. Its task ends only by `end`; who owns the part watches it for failure."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """The running task; None before `begin` and after `end`."""
        return self._task

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else."""
        self._task = asyncio.create_task(work, name=self._name)

    async def end(self) -> None:
        """Cancel the work; nothing of it runs when this returns. Again, or before `begin`: no-op."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
