"""One running program that answers calls in lines of JSON, and the calls that it is at."""

import asyncio
import os
from collections.abc import Callable
from itertools import count

import structlog

from mesh.errors import MeshError
from mesh.experts.backends import lines
from mesh.experts.backends.child import Child, ChildLost, ChildOptions, start_child
from mesh.experts.backends.pieces import Pieces
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

_AHEAD = 16

log = structlog.get_logger(__name__)


class _Mailbox:
    """What came for one call and was not yet taken, at most ``_AHEAD`` lines of it."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[lines.Piece | lines.Answered | AttemptFailed] = asyncio.Queue(_AHEAD)
        self._dropped = False
        self.ended = asyncio.Event()

    async def put(self, line: lines.Piece | lines.Answered | lines.Failed) -> None:
        if not isinstance(line, lines.Piece):
            self.ended.set()
        if not self._dropped:
            await self._lines.put(line.failure() if isinstance(line, lines.Failed) else line)

    def fail(self, failure: AttemptFailed) -> None:
        """Nothing more comes."""
        if not self.ended.is_set():
            self.ended.set()
            if self._lines.full():
                self._lines.get_nowait()  # a piece of an answer that will not be whole
            self._lines.put_nowait(failure)

    async def get(self) -> lines.Piece | lines.Answered:
        line = await self._lines.get()
        if isinstance(line, AttemptFailed):
            raise line
        return line

    def drop(self) -> None:
        """Nobody takes any more; whoever waits for room goes on."""
        self._dropped = True
        while not self._lines.empty():
            self._lines.get_nowait()


class Program:
    """Make it with `start_program`. ``on_end(program, why)`` is called once if it ends unasked."""

    def __init__(self, child: Child, model: str, on_end: Callable[["Program", str], None]) -> None:
        self.child = child
        self.model = model
        self.started = asyncio.get_running_loop().time()
        self._on_end = on_end
        self._wanted = False
        self._numbers = count(1)
        self._calls: dict[str, _Mailbox] = {}
        self._reading = asyncio.create_task(self._read(), name=f"read {child.name}")

    @property
    def load(self) -> int:
        """How many calls it is at, also those that were taken back and have not ended."""
        return len(self._calls)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.child.alive and not self._reading.done()

    async def ask(self, call: Call, emit: Emit, cancel_grace_s: float) -> Answer:
        """Its answer. A call that is cancelled is taken back; who ignores that is killed. Raises AttemptFailed."""
        number, mailbox, pieces = str(next(self._numbers)), _Mailbox(), Pieces(emit, call)
        self._calls[number] = mailbox
        try:
            await self.child.send(lines.call_line(number, call))
            while isinstance(line := await mailbox.get(), lines.Piece):
                await pieces.add(line.text)
            await pieces.add(line.text)
            return line.answer(pieces.text, self.model)
        except ChildLost as error:
            raise AttemptFailed("failed", str(error)) from None
        finally:
            mailbox.drop()
            if not mailbox.ended.is_set() and self.alive:
                await self._take_back(number, mailbox, cancel_grace_s)
            self._calls.pop(number, None)

    async def end(self) -> None:
        """End it with all that it started. Calls that it is at fail."""
        self._wanted = True
        await self.child.end()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _take_back(self, number: str, mailbox: _Mailbox, grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                await self.child.send(lines.cancel_line(number))
                await mailbox.ended.wait()
        except (TimeoutError, asyncio.CancelledError, ChildLost):
            log.debug("program is killed: a call was taken back and goes on", program=self.child.name)
            self._wanted = True
            await self.child.end()

    async def _read(self) -> None:
        try:
            while True:
                await self._dispatch(lines.parse(await self.child.receive()))
        except ChildLost as error:
            why = str(error)
        except ValueError as error:
            why = f"{self.child.name} wrote what is no line of the protocol: {error}"
        how = await self.child.end()
        failure = AttemptFailed("failed", f"{why}; it {how}")
        for mailbox in self._calls.values():
            mailbox.fail(failure)
        if not self._wanted:
            self._on_end(self, f"{why}; it {how}")

    async def _dispatch(self, line: lines.Line) -> None:
        if isinstance(line, lines.Ready):
            raise ValueError("it says a second time that it is ready")  # noqa: TRY004 - the value of a line
        mailbox = self._calls.get(line.id)
        if mailbox is not None:  # else it is late: the call was taken back
            await mailbox.put(line)


async def start_program(options: ChildOptions, on_end: Callable[[Program, str], None]) -> Program:
    """Start the program and wait until it says that it is ready. Raises MeshError."""
    child = await start_child(options, os.environ)
    try:
        async with asyncio.timeout(options.start_timeout_s):
            greeting = lines.parse(await child.receive())
        if not isinstance(greeting, lines.Ready):
            raise ValueError(f"{type(greeting).__name__} instead of ready")  # noqa: TRY301, TRY004 - one way to fail
    except (TimeoutError, ValueError, ChildLost) as error:
        how = await child.end()
        what = f"within {options.start_timeout_s:g} s" if isinstance(error, TimeoutError) else f"first: {error}"
        raise MeshError(
            f'{child.name} did not write {{"type":"ready"}} {what}; it {how}',
            remedy="See the node's log for what it printed, and docs/experts.md for the lines.",
        ) from None
    except BaseException:
        await child.end()
        raise
    return Program(child, (greeting.model or child.name)[:128], on_end)
