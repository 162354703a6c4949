"""The node's end of `mesh.experts.backends.worker`: one nursery process, and the workers that it forks."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

from mesh.errors import MeshError
from mesh.experts.backends.environment import clean_environment
from mesh.experts.backends.worker import COMMAND, FORK, KILL, LENGTH, READY
from mesh.processes import describe_exit, die_with_parent, wait_for_exit

_START_TIMEOUT_S = 60.0
_FORK_TIMEOUT_S = 10.0


class WorkerLost(MeshError):
    """The process ended before it replied."""


class Worker:
    """A forked worker, as the socket to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.pid = 0

    @property
    def ended(self) -> bool:
        """Whether the process is known to be gone."""
        return self._reader.at_eof()

    async def greeted(self) -> None:
        """Read its first message. Raises WorkerLost."""
        self.pid = int((await self._receive())["pid"])

    async def run(self, content: str, options: dict[str, Any]) -> dict[str, Any]:
        """Send a job and return its reply. Raises WorkerLost when the process ends meanwhile."""
        data = json.dumps({"content": content, "options": options}).encode()
        self._writer.write(LENGTH.pack(len(data)) + data)
        try:
            await self._writer.drain()
        except ConnectionError:
            raise WorkerLost("the worker process was lost") from None
        return await self._receive()

    async def gone(self) -> None:
        """Return once the process, which holds the other end alone, is gone."""
        with suppress(ConnectionError):  # it was killed before it had read all of its job
            while await self._reader.read(1 << 16):
                pass
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        self._writer.close()

    async def _receive(self) -> dict[str, Any]:
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            reply: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise WorkerLost("the worker process was lost: killed, or out of memory") from None
        return reply


class Nursery:
    """The process that imports ``target`` (``module:function``) once and forks workers that run it."""

    def __init__(self, target: str, memory_bytes: int) -> None:
        self._target = target
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait for its import. Raises MeshError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._control = ours
        with theirs:
            command = [sys.executable, "-m", "mesh.experts.backends.worker", str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                [*command, self._target, str(self._memory_bytes)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                preexec_fn=die_with_parent,  # noqa: PLW1509 - prctl alone
                start_new_session=True,
                # No secrets for what reads strangers' input, and no threads in a process that forks.
                env=clean_environment(os.environ, ("PYTHONPATH", "PYTHONHOME"), {"OPENBLAS_NUM_THREADS": "1"}),
            )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                greeting = await asyncio.get_running_loop().sock_recv(ours, len(READY))
        except TimeoutError:
            greeting = b""
        if greeting != READY:
            raise await self._failed()

    async def stop(self) -> None:
        """End it; its workers are ended by their own means (`Worker.close`, `kill`)."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            await wait_for_exit(self._process)
            self._process = None

    async def fork(self) -> Worker:
        """A new worker. Raises MeshError when none can be had."""
        if self._control is None:
            raise MeshError(f"the nursery of {self._target} is not running")
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [COMMAND.pack(FORK, 0)], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise MeshError(f"the nursery of {self._target} was lost: {error}") from None
        ours.setblocking(False)
        worker = Worker(*await asyncio.open_connection(sock=ours))
        try:
            async with asyncio.timeout(_FORK_TIMEOUT_S):
                await worker.greeted()
        except BaseException:
            worker.close()
            raise
        return worker

    async def kill(self, worker: Worker) -> None:
        """Kill a worker and what it started, and return once it is gone."""
        if self._control is not None and not worker.ended:
            try:
                self._control.send(COMMAND.pack(KILL, worker.pid))
            except OSError:  # the nursery is gone, and its workers with it
                worker.close()
                return
        await worker.gone()

    async def _failed(self) -> MeshError:
        assert self._process is not None
        self._process.kill()
        how = describe_exit(await wait_for_exit(self._process))
        return MeshError(
            f"no worker process for {self._target} ({how})", remedy="See the node's log for what it printed."
        )
