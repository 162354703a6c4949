"""Worker processes (`mesh.experts.backends.worker`) that run one job each and can be killed in the middle of it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Options
from mesh.experts.backends.worker import LENGTH
from mesh.experts.calls import AttemptFailed
from mesh.processes import describe_exit, die_with_parent, wait_for_exit

_START_TIMEOUT_S = 30.0
_MAX_INPUT_BYTES = 1 << 20


class WorkerOptions(Options):
    """The limits of one calculation."""

    limit_s: float = Field(default=10.0, gt=0, le=3600, description="A calculation that takes longer is killed")
    memory_mb: int = Field(default=1024, ge=128, description="Address space of a worker process, MiB")


class _Worker:
    """One child process and the socket to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", link: socket.socket) -> None:
        self.process = process
        self._link = link
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Return once it takes jobs."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._link)
        await self._receive()

    async def run(self, content: str, options: dict[str, Any]) -> dict[str, str]:
        """Send a job and return its reply. Raises AttemptFailed when the process ends meanwhile."""
        assert self._writer is not None
        data = json.dumps({"content": content, "options": options}).encode()
        self._writer.write(LENGTH.pack(len(data)) + data)
        try:
            await self._writer.drain()
        except ConnectionError:
            raise await self._lost() from None
        return await self._receive()

    async def end(self) -> None:
        """Kill it and what it started, and return once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self._writer is not None:
            self._writer.close()
        self._link.close()
        await wait_for_exit(self.process)

    async def _receive(self) -> dict[str, str]:
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            reply: dict[str, str] = json.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._lost() from None
        return reply

    async def _lost(self) -> AttemptFailed:
        how = describe_exit(await wait_for_exit(self.process))
        return AttemptFailed("failed", f"the calculation's process was lost: {how}")


class WorkerPool:
    """Keeps idle workers for reuse and starts more when all are busy; its caller bounds how many run at once.

    ``target`` is the ``module:function`` that each worker runs its jobs with.
    """

    def __init__(self, target: str, options: WorkerOptions) -> None:
        self._target = target
        self._limit_s = options.limit_s
        self._memory_bytes = options.memory_mb << 20
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()

    async def start(self) -> None:
        """Start the first worker, so that the first call need not. Raises MeshError."""
        self._idle.append(await self._spawn())

    async def stop(self) -> None:
        """Kill every worker."""
        while self._workers:
            await self._end(next(iter(self._workers)))
        self._idle.clear()

    async def check(self) -> None:
        """Make sure that a worker runs. Raises MeshError when none can be started."""
        if all(worker.process.poll() is not None for worker in self._workers):
            await self.start()

    async def run(self, content: str, options: dict[str, Any]) -> str:
        """The job's text. Cancelling kills its worker. Raises AttemptFailed, also when it takes over ``limit_s``."""
        if len(content) > _MAX_INPUT_BYTES:
            raise AttemptFailed("invalid", f"the input has {len(content)} characters, the limit is {_MAX_INPUT_BYTES}")
        worker = await self._take()
        try:
            async with asyncio.timeout(self._limit_s):
                reply = await worker.run(content, options)
        except TimeoutError:
            await self._end(worker)
            raise AttemptFailed(
                "invalid", f"it takes longer than the {self._limit_s:g} s that one calculation may"
            ) from None
        except BaseException:
            await self._end(worker)
            raise
        self._idle.append(worker)
        if "text" in reply:
            return reply["text"]
        raise AttemptFailed("invalid" if reply["kind"] == "invalid" else "failed", reply["message"])

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            await self._end(worker)
        try:
            return await self._spawn()
        except MeshError as error:
            raise AttemptFailed("unavailable", str(error)) from None

    async def _spawn(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            command = [sys.executable, "-m", "mesh.experts.backends.worker", str(theirs.fileno())]
            process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                [*command, self._target, str(self._memory_bytes)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                preexec_fn=die_with_parent,  # noqa: PLW1509 - prctl alone
                start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads would eat the address space
            )
        worker = _Worker(process, ours)
        self._workers.add(worker)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await worker.connect()
        except (TimeoutError, AttemptFailed) as error:
            await self._end(worker)
            raise MeshError(
                f"no worker process for {self._target}: {str(error) or f'not ready within {_START_TIMEOUT_S:g} s'}",
                remedy="See the node's log for what it printed.",
            ) from None
        except BaseException:
            await self._end(worker)
            raise
        return worker

    async def _end(self, worker: _Worker) -> None:
        await worker.end()
        self._workers.discard(worker)
