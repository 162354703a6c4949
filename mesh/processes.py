"""Child processes that must not outlive the node, are started again when they end, and say so."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from mesh.clock import Clock, SystemClock
from mesh.keeper import Keeper

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TERM_GRACE_S = 5.0
_ORDERLY = (0, -signal.SIGTERM)
_BACKOFF_MIN_S = 0.1
_BACKOFF_MAX_S = 10.0
_LASTED_S = 30.0

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
log = structlog.get_logger(__name__)


def die_with_parent(parent: int = 0) -> None:
    """In a child, before exec: ask Linux for SIGTERM when the *thread* that started us ends.

    So start children from the main thread. A ``parent`` (process id) that has ended already is noticed too: then
    nobody would send the signal any more. Elsewhere it does nothing: pid files find what was left over.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if parent and os.getppid() != parent:
            os._exit(1)


class SupervisedProcess:
    """Runs one command, and runs it again, with growing pauses, whenever it ends without being told to.

    ``command`` is asked before each start. ``ready`` returns once the new process serves, or raises; a failure of
    the *first* start is raised by `start`, later ones count as another end. ``on_restart(reason, restarts, down_ms)``
    is called after each successful restart, ``on_exit(reason)`` as soon as the process is seen to have ended.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        *,
        log_path: Path,
        ready: Callable[["subprocess.Popen[bytes]"], Awaitable[None]],
        on_restart: Callable[[str, int, float], None],
        on_exit: Callable[[str], None] = lambda _reason: None,
        environment: Callable[[], Mapping[str, str]] | None = None,
        pass_fds: Sequence[int] = (),
        grace_s: float = _TERM_GRACE_S,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._log_path = log_path
        self._ready = ready
        self._on_restart = on_restart
        self._on_exit = on_exit
        self._environment = environment
        self._pass_fds = tuple(pass_fds)
        self._grace_s = grace_s
        self._clock = clock or SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self.keeper = Keeper(f"keep {self.name}")
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process id, or None while there is no process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(self) -> None:
        """Start it, wait until it serves, and keep it running from then on."""
        await self._launch()
        self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL after ``grace_s``, five seconds."""
        kept = self.keeper.task is not None
        await self.keeper.end()
        if kept and self._process is not None and self._process.poll() not in (None, *_ORDERLY):
            reason = describe_exit(self._process.returncode)
            log.warning("process had ended before it was told to", process=self.name, reason=reason)
        await self._end()

    def kill(self) -> None:
        """SIGKILL, as a watchdog does with a process that no longer answers; it is then started again."""
        if self._process is not None:
            self._process.kill()

    async def _launch(self) -> None:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log_file:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a list; prctl is all that runs; starts at once
                list(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - prctl and getppid alone
                start_new_session=True,
                pass_fds=self._pass_fds,
                env=dict(self._environment()) if self._environment is not None else None,
            )
        try:
            await self._ready(self._process)
        except BaseException:
            await self._end()
            raise

    async def _keep(self) -> None:
        pause = _BACKOFF_MIN_S
        while True:
            assert self._process is not None
            started = self._clock.monotonic()
            reason = describe_exit(await wait_for_exit(self._process))
            ended = self._clock.monotonic()
            ended_how = reason
            self._on_exit(reason)
            pause = _BACKOFF_MIN_S if ended - started > _LASTED_S else pause
            while True:
                log.warning("process ended", process=self.name, reason=reason, restart_in_s=round(pause, 2))
                await self._clock.sleep(pause)
                pause = min(pause * 2, _BACKOFF_MAX_S)
                try:
                    await self._launch()
                    break
                except Exception as error:  # noqa: BLE001 - whatever kept it from starting, try again and say why
                    reason = f"{ended_how}; restart failed: {error}"
            self.restarts += 1
            self._on_restart(reason, self.restarts, (self._clock.monotonic() - ended) * 1000)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(self._grace_s):
                status = await wait_for_exit(process)
            if status not in _ORDERLY:
                log.warning("process did not end in order", process=self.name, reason=describe_exit(status))
        except TimeoutError:
            log.warning("process did not end when told to, and is killed", process=self.name, after_s=self._grace_s)
            process.kill()
            await wait_for_exit(process)


async def wait_for_exit(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit status of a child once it has one, without blocking the event loop."""
    if process.poll() is not None:  # its id may be another process's by now
        return process.wait()
    if not hasattr(os, "pidfd_open"):
        while process.poll() is None:  # noqa: ASYNC110 - nothing here tells us
            await asyncio.sleep(0.05)
        return process.wait()
    descriptor = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    exited = asyncio.Event()
    loop.add_reader(descriptor, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def describe_exit(status: int) -> str:
    """``exited with status 1`` or ``killed by SIGKILL``."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
