"""A program in any language as an expert: it reads calls and writes answers, a line of JSON each.

The lines are documented in docs/experts.md. A program that does one call at a time is the simplest to write, so that
is the default: as many processes are started as calls run at once.
"""

import asyncio
from math import ceil

import structlog
from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Kind
from mesh.experts.backends.backoff import Backoff
from mesh.experts.backends.child import ChildOptions
from mesh.experts.backends.program import Program, start_program
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

log = structlog.get_logger(__name__)


class SubprocessOptions(ChildOptions):
    """``options`` of ``backend = "subprocess"``."""

    parallel: int = Field(default=1, ge=1, le=1024, description="Calls that one process is given at once")
    cancel_grace_s: float = Field(
        default=0.5, ge=0, le=60, description="A process that goes on for longer with a call taken back is killed"
    )
    chat: bool = Field(default=False, description="It takes conversations")
    tools: bool = Field(default=False, description="It takes tools, and conversations")


class SubprocessBackend:
    """Keeps a program running, in as many processes as the calls need; one that ends is started again, with pauses."""

    def __init__(self, options: SubprocessOptions, concurrency: int) -> None:
        self.model = options.command[0].rpartition("/")[2]
        self.features: tuple[str, ...] = ("chat", "tools") if options.tools else ("chat",) if options.chat else ()
        self._options = options
        self._most = ceil(concurrency / options.parallel)
        self._programs: list[Program] = []
        self._starting = asyncio.Lock()
        self._backoff = Backoff()
        self._not_before = 0.0
        self._lost = asyncio.Event()
        self._problem = ""
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a first process. Raises MeshError when it does not get ready."""
        self._programs.append(await self._start_one())
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.model}")

    async def stop(self) -> None:
        """End every process with all that it has started."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        async with self._starting:
            await asyncio.gather(*(program.end() for program in self._programs))
            self._programs.clear()

    async def check(self) -> None:
        """Raise MeshError while no process runs."""
        if not any(program.alive for program in self._programs):
            try:
                await self._room()
            except AttemptFailed as failure:
                raise MeshError(failure.message, remedy="The node's log has what the program printed.") from None

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Ask a process that has room. Raises AttemptFailed."""
        program = await self._room()
        return await program.ask(call, emit, self._options.cancel_grace_s)

    async def _room(self) -> Program:
        async with self._starting:
            self._programs = [program for program in self._programs if program.alive]
            free = [program for program in self._programs if program.load < self._options.parallel]
            if free:
                return min(free, key=lambda program: program.load)
            if asyncio.get_running_loop().time() < self._not_before:
                raise AttemptFailed("unavailable", f"it is started again soon: {self._problem}")
            if len(self._programs) >= self._most:
                raise AttemptFailed("unavailable", f"each of {self._most} processes is busy with what was taken back")
            try:
                program = await self._start_one()
            except MeshError as error:
                self._put_off(str(error), 0.0)
                raise AttemptFailed("unavailable", str(error)) from None
            self._programs.append(program)
            return program

    async def _start_one(self) -> Program:
        program = await start_program(self._options, self._ended)
        self.model = program.model
        self._problem = ""
        return program

    def _ended(self, program: Program, why: str) -> None:
        log.warning("program ended", program=program.child.name, pid=program.child.pid, reason=why)
        self._put_off(why, asyncio.get_running_loop().time() - program.started)

    def _put_off(self, why: str, lived_s: float) -> None:
        self._problem = why
        self._not_before = asyncio.get_running_loop().time() + self._backoff.after(lived_s)
        self._lost.set()

    async def _keep(self) -> None:
        """Start the program again after each end that nobody asked for, when its pause is over."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            await asyncio.sleep(max(0.0, self._not_before - asyncio.get_running_loop().time()))
            try:
                await self._room()
            except AttemptFailed as failure:  # which has put off the next start, or another one runs
                log.info("program is not started", program=self.model, reason=failure.message)


KIND = Kind(SubprocessOptions, SubprocessBackend)
