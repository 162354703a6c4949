"""The projector as a child of the node: started, watched, and started again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mesh.clock import Clock
from mesh.config import Config
from mesh.errors import MeshError
from mesh.home import Home
from mesh.processes import SupervisedProcess, describe_exit, wait_for_exit

# What the projector says to the node that started it. They stand here, where SQLAlchemy is not imported.
READY = b"ready\n"
LAST_WORDS = "mesh: the projector cannot go on: "
_GRACE_S = 3.0  # it takes two of them, at most, for what is not in the tables yet
_READY_WITHIN_S = 600.0  # a new release may rebuild tables first


class ProjectorFailed(MeshError):
    """The projector ended, or did nothing, before it followed the journal."""


class ProjectorProcess(SupervisedProcess):
    """`SupervisedProcess`, and the pipe on which each new projector says that it follows the journal."""

    def __init__(
        self,
        home: Home,
        *,
        on_restart: Callable[[str, int, float], None],
        environment: Callable[[], Mapping[str, str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._read_fd, self._write_fd = os.pipe()
        command = (sys.executable, "-m", "mesh.projections.worker", "--home", str(home.root))
        log_path = home.logs / "projector.log"
        super().__init__(
            "projector",
            lambda: (*command, "--ready-fd", str(self._write_fd)),
            log_path=log_path,
            ready=partial(_wait_until_ready, self._read_fd, log_path),
            on_restart=on_restart,
            environment=environment,
            pass_fds=(self._write_fd,),
            grace_s=_GRACE_S,
            clock=clock,
        )

    async def stop(self) -> None:
        """See `SupervisedProcess.stop`; it cannot be started again."""
        await super().stop()
        for descriptor in (self._read_fd, self._write_fd):
            os.close(descriptor)


def projector_process(
    home: Home,
    config: Config,
    *,
    on_restart: Callable[[str, int, float], None],
    clock: Clock | None = None,
) -> SupervisedProcess:
    """The projector of the node in ``home``: start it once the journal is open, stop it once that is closed."""
    del config  # it reads its own, from the home and the environment, at each start
    return ProjectorProcess(home, on_restart=on_restart, clock=clock)


async def _wait_until_ready(descriptor: int, log_path: Path, process: "subprocess.Popen[bytes]") -> None:
    exited = asyncio.ensure_future(wait_for_exit(process))
    told = asyncio.ensure_future(_line(descriptor))
    try:
        done, _ = await asyncio.wait({exited, told}, timeout=_READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if told in done:
            return
        how = describe_exit(exited.result()) if exited in done else f"said nothing for {_READY_WITHIN_S:g} s"
        raise _failed(f"{how} before it was ready", log_path, process.returncode)
    finally:
        exited.cancel()
        told.cancel()
        await asyncio.gather(exited, told, return_exceptions=True)


def _failed(how: str, log_path: Path, status: int | None) -> ProjectorFailed:
    """The error with the projector's own last words, and its exit code."""
    last = log_path.read_text(errors="replace").rstrip().rpartition("\n")[2]
    said = f": {last.removeprefix(LAST_WORDS)}" if last.startswith(LAST_WORDS) else ""
    error = ProjectorFailed(f"the projector {how}{said}".removesuffix("."), remedy=f"{log_path} says more.")
    error.exit_code = status or error.exit_code
    return error


async def _line(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        os.read(descriptor, len(READY))
    finally:
        loop.remove_reader(descriptor)
