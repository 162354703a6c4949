"""Worker processes that run one job each, are reused, and are killed in the middle of a job that takes too long."""

import asyncio
from typing import Any

from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Options
from mesh.experts.backends.nursery import Nursery, Worker, WorkerLost
from mesh.experts.calls import AttemptFailed

_MAX_INPUT = 1 << 20


class WorkerOptions(Options):
    """The limits of one calculation."""

    limit_s: float = Field(default=10.0, gt=0, le=3600, description="A calculation that takes longer is killed")
    memory_mb: int = Field(default=1024, ge=256, description="Address space of a worker process, MiB")


class WorkerPool:
    """Runs jobs in workers, forking more when all are busy; its caller bounds how many run at once.

    ``target`` is the ``module:function`` that the workers run their jobs with.
    """

    def __init__(self, target: str, options: WorkerOptions) -> None:
        self._limit_s = options.limit_s
        self._nursery = Nursery(target, options.memory_mb << 20)
        self._starting = asyncio.Lock()
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()

    async def start(self) -> None:
        """Start the nursery and a first worker. Raises MeshError."""
        await self.check()
        self._idle.append(await self._fork())

    async def stop(self) -> None:
        """Kill every process."""
        while self._workers:
            await self._end(next(iter(self._workers)))
        self._idle.clear()
        await self._nursery.stop()

    async def check(self) -> None:
        """Make sure that the nursery runs. Raises MeshError when it cannot be started."""
        async with self._starting:
            if not self._nursery.running:
                await self._nursery.stop()
                await self._nursery.start()

    async def run(self, content: str, options: dict[str, Any]) -> str:
        """The job's text. Cancelling kills its worker. Raises AttemptFailed, also when it takes over ``limit_s``."""
        if len(content) > _MAX_INPUT:
            raise AttemptFailed("invalid", f"the input has {len(content)} characters, the limit is {_MAX_INPUT}")
        worker = await self._take()
        try:
            async with asyncio.timeout(self._limit_s):
                reply = await worker.run(content, options)
        except BaseException as error:
            await self._end(worker)
            if isinstance(error, TimeoutError):
                raise AttemptFailed(
                    "invalid", f"it takes over {self._limit_s:g} s, the limit of one calculation"
                ) from None
            if isinstance(error, WorkerLost):
                raise AttemptFailed("failed", str(error)) from None
            raise
        self._idle.append(worker)
        if "text" in reply:
            return str(reply["text"])
        raise AttemptFailed("invalid" if reply["kind"] == "invalid" else "failed", str(reply["message"]))

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if not worker.ended:
                return worker
            await self._end(worker)
        try:
            await self.check()
            return await self._fork()
        except (MeshError, TimeoutError) as error:
            raise AttemptFailed("unavailable", f"no worker process: {error}") from None

    async def _fork(self) -> Worker:
        worker = await self._nursery.fork()
        self._workers.add(worker)
        return worker

    async def _end(self, worker: Worker) -> None:
        await self._nursery.kill(worker)
        self._workers.discard(worker)
