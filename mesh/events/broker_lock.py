"""The store's lock: two servers on one JetStream directory both run, and corrupt it in silence.

The lock is inherited by the server, so it is held for exactly as long as any server may write there, also when
the node that started it is gone.
"""

import asyncio
import fcntl
import json
import os
from pathlib import Path

import psutil
import structlog

from mesh.errors import BrokerError

_GRACE_S = 10.0
_POLL_S = 0.02
log = structlog.get_logger(__name__)


class StoreLock:
    """An flock on ``directory/lock``. ``pid_file`` is where the server that may hold it wrote its process id."""

    def __init__(self, directory: Path, pid_file: Path) -> None:
        self._directory = directory
        self._pid_file = pid_file
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file that the server must inherit."""
        assert self._descriptor is not None
        return self._descriptor

    async def acquire(self) -> None:
        """Take it, ending a server that was left over by a node that crashed.

        Raises BrokerError when a living process uses the store, or a left-over server does not end.
        """
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _try_lock(descriptor):
                self._refuse_living_owner(descriptor)
                await self._evict(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": _started(os.getpid())}).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; a server that still runs keeps its own hold."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _refuse_living_owner(self, descriptor: int) -> None:
        try:
            owner = json.loads(os.pread(descriptor, 200, 0))
            alive = _started(owner["pid"]) == owner["since"]
        except (ValueError, KeyError, TypeError):
            return
        if alive:
            raise BrokerError(
                f"the event store in {self._directory} is in use by process {owner['pid']}",
                remedy="Stop that node, or choose another directory with --home.",
            )

    async def _evict(self, descriptor: int) -> None:
        """A dying server may just be flushing; one that goes on without its node is told to end."""
        server = self._left_over()
        if server is not None:
            log.warning("ending a left-over nats-server", pid=server.pid, store=str(self._directory))
            server.terminate()
        if await _lock_within(descriptor, _GRACE_S):
            return
        if server is not None:
            server.kill()
            if await _lock_within(descriptor, _GRACE_S):
                return
        raise BrokerError(
            f"the event store in {self._directory} is held by another process"
            + (f", nats-server {server.pid}, which does not end" if server is not None else ""),
            remedy="End that process, then start the node again.",
        )

    def _left_over(self) -> psutil.Process | None:
        """The server that the pid file names, if it is one of this directory and not just a reused number."""
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            command = process.cmdline()
        except (OSError, ValueError, psutil.Error):
            return None
        return process if any(str(self._directory) in word for word in command) else None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _lock_within(descriptor: int, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while not _try_lock(descriptor):  # noqa: ASYNC110 - the kernel tells nobody when a lock is free
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return False
    return True


def _started(pid: int) -> float | None:
    """When a process was created, which together with its number names it; None when there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
