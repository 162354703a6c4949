"""A program of the operator's that speaks lines over its standard input and output: started, heard, and ended whole.

It gets a clean environment and a process group of its own, which is killed with all that the program has started.
What it writes to its standard error goes to the node's log.
"""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import structlog
from pydantic import Field, field_validator

from mesh.errors import MeshError
from mesh.experts.backend import Options
from mesh.experts.backends.environment import clean_environment
from mesh.processes import describe_exit, die_with_parent, wait_for_exit

MAX_LINE = 8 << 20
_TERM_GRACE_S = 2.0
_CRASH_S = 0.2  # between the end of a program's output and its own
_LOGGED_PER_PROGRAM = 1000
_LOGGED_CHARACTERS = 500

log = structlog.get_logger(__name__)


class ChildLost(MeshError):
    """The program ended, or is being ended."""


class ChildOptions(Options):
    """How a program is started."""

    command: list[str] = Field(min_length=1, description="The program and its arguments; no shell reads them")
    folder: Path | None = Field(default=None, description="Where it runs; default: where the node does")
    env: dict[str, str] = Field(default={}, description="Variables for its environment, which is clean otherwise")
    pass_env: list[str] = Field(default=[], description="Variables that it gets from the node's own environment")
    memory_mb: int = Field(default=0, ge=0, description="Address space of each process, MiB; 0: no limit")
    start_timeout_s: float = Field(default=30.0, gt=0, le=600, description="Within which it says that it is ready")

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: list[str]) -> list[str]:
        if command and not command[0]:
            raise ValueError("the first part of a command is the program")
        return command


class Child:
    """One running program. Make it with `start_child`, from the main thread."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self._process = process
        self._ending: asyncio.Task[str] | None = None
        self._log: asyncio.Task[None] | None = None
        self._reader = asyncio.StreamReader(limit=MAX_LINE)
        self._writer: asyncio.StreamWriter | None = None
        self._pipes: list[asyncio.BaseTransport] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be talked to."""
        return self._ending is None and not self._reader.at_eof()

    async def open(self) -> None:
        """Join its pipes to the event loop. Who is cancelled meanwhile leaves no program behind."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        apart = deque([process.stdout, process.stderr, process.stdin])
        try:
            await self._join(apart)
        except BaseException:
            for pipe in apart:
                pipe.close()
            await self.end()
            raise

    async def _join(self, apart: deque[IO[bytes]]) -> None:
        loop = asyncio.get_running_loop()
        errors = asyncio.StreamReader(limit=1 << 16)
        for reader in (self._reader, errors):
            protocol = partial(asyncio.StreamReaderProtocol, reader)
            transport, _ = await loop.connect_read_pipe(protocol, apart.popleft())  # closes it if that fails
            self._pipes.append(transport)
        control = asyncio.StreamReaderProtocol(asyncio.StreamReader())  # for its flow control: nothing is read
        write, _ = await loop.connect_write_pipe(lambda: control, apart.popleft())
        self._writer = asyncio.StreamWriter(write, control, None, loop)
        self._pipes.append(write)
        self._log = asyncio.create_task(self._log_lines(errors), name=f"log of {self.name}")

    async def send(self, line: bytes) -> None:
        """Write one line. Raises ChildLost."""
        assert self._writer is not None
        if self._writer.is_closing():
            raise ChildLost(f"{self.name} no longer reads")
        try:
            self._writer.write(line + b"\n")
            await self._writer.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ChildLost(f"{self.name} no longer reads: {error!r}") from None

    async def receive(self) -> bytes:
        """The next line. Raises ChildLost at the end, and for a line that is too long."""
        try:
            line = await self._reader.readline()
        except ValueError:
            raise ChildLost(f"{self.name} wrote a line of more than {MAX_LINE} bytes") from None
        if not line.endswith(b"\n"):
            raise ChildLost(f"{self.name} closed its output")
        return line

    async def end(self) -> str:
        """End it and all that it started, and return how it ended."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name=f"end {self.name}")
        return await asyncio.shield(self._ending)

    async def _end(self) -> str:
        """SIGTERM, and SIGKILL after a while; the group is killed before the process is reaped and its id is free."""
        crashed = await _exits(self._process, _CRASH_S if self._reader.at_eof() else 0)
        if self._writer is not None:
            self._writer.close()
        if not crashed:
            self._signal(signal.SIGTERM)
            await _exits(self._process, _TERM_GRACE_S)
        self._signal(signal.SIGKILL)
        how = describe_exit(await wait_for_exit(self._process))
        if self._log is not None:
            await asyncio.wait({self._log}, timeout=_TERM_GRACE_S)
            self._log.cancel()
            await asyncio.gather(self._log, return_exceptions=True)
        for pipe in self._pipes:
            pipe.close()
        return how if crashed else "was ended"

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _log_lines(self, errors: asyncio.StreamReader) -> None:
        written = 0
        while True:
            try:
                line = await errors.readline()
            except ValueError:  # longer than the buffer, which is dropped
                continue
            if not line:
                return
            written += 1
            if written <= _LOGGED_PER_PROGRAM:
                text = line.decode(errors="replace").rstrip()[:_LOGGED_CHARACTERS]
                log.info("program says", program=self.name, pid=self.pid, line=text)
            if written == _LOGGED_PER_PROGRAM:
                log.warning("program says too much: the rest is not logged", program=self.name, pid=self.pid)


async def start_child(options: ChildOptions, environment: Mapping[str, str]) -> Child:
    """Start the program. Raises MeshError when there is none, or it cannot be started."""
    given = clean_environment(environment, options.pass_env, options.env)
    if missing := [name for name in options.pass_env if name not in environment]:
        raise MeshError(
            f"the environment variable {missing[0]} is not set", remedy="Set it, or take it out of options.pass_env."
        )
    program = options.command[0]
    found = shutil.which(program, path=given.get("PATH")) if "/" not in program else program
    if found is None:
        raise MeshError(f"there is no program {program!r} on the PATH", remedy="Install it or correct options.command.")
    process = _spawn([found, *options.command[1:]], options, given)
    child = Child(Path(program).name, process)
    await child.open()
    return child


def _spawn(command: Sequence[str], options: ChildOptions, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=options.folder,
            env=dict(environment),
            preexec_fn=partial(_before_exec, os.getpid(), options.memory_mb << 20),  # noqa: PLW1509 - system calls alone
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise MeshError(
            f"{command[0]} cannot be started: {error}", remedy="Correct options.command or options.folder."
        ) from None


def _before_exec(parent: int, memory_bytes: int) -> None:
    die_with_parent(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


async def _exits(process: "subprocess.Popen[bytes]", within_s: float) -> bool:
    """Whether it has ended within so many seconds. It is not reaped, so that its id still means its group."""
    if process.returncode is not None or not hasattr(os, "pidfd_open"):
        return process.returncode is not None
    descriptor = os.pidfd_open(process.pid)
    loop, exited = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, exited.set)
    try:
        async with asyncio.timeout(within_s):
            await exited.wait()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
