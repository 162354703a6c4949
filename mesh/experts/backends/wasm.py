"""A WebAssembly module as an expert, in a sandbox: the text on its standard input, its standard output the answer.

Any language that compiles to a WASI command will do. The module gets no files, no network and no secrets, and its
fuel, memory and time are bounded; whatever it does, the node goes on.
"""

import asyncio
import codecs
import threading
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Kind, Options
from mesh.experts.backends.daemon_threads import DaemonThreads
from mesh.experts.backends.lines import call_fields
from mesh.experts.backends.pieces import Pieces
from mesh.experts.backends.sandbox import Compiled, End, Sandbox
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

_AHEAD = 16
_MAX_SAID = 500
_EXIT_INVALID = 2


class WasmOptions(Options):
    """``options`` of ``backend = "wasm"``."""

    path: Path = Field(default=Path("expert.wasm"), description="A .wasm file, or a .wat one")
    input: Literal["text", "call"] = Field(default="text", description="On its standard input: the text, or JSON")
    arguments: list[str] = Field(default=[], description="Behind its own name")
    env: dict[str, str] = Field(default={}, description="Its environment variables; there are no others")
    fuel: int = Field(default=10_000_000_000, ge=1000, description="Instructions that a call may take, about")
    memory_mb: int = Field(default=64, ge=1, le=4096, description="Memory that a call may have, MiB")
    limit_s: float = Field(default=10.0, gt=0, le=3600, description="Time that a call may take")
    chat: bool = Field(default=False, description='It takes conversations, with input = "call"')


class _Run:
    """What a module writes, on its way from its thread to the event loop, a little ahead of it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._sandbox = sandbox
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = threading.Event()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.said = b""
        sandbox.prepare()

    def write(self, descriptor: int, data: bytes) -> None:
        """Called in the module's thread."""
        if descriptor == 2:
            self.said = (self.said + data)[-4 * _MAX_SAID :]
        else:
            self._put(self._decoder.decode(data))

    def run(self, stdin: bytes, arguments: list[str], env: dict[str, str]) -> tuple[End, int, str]:
        """The whole of it, in the module's thread."""
        try:
            outcome = self._sandbox.run(stdin, arguments, env, self.write)
            self._put(self._decoder.decode(b"", final=True))
            return outcome
        finally:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, None)

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._sandbox.stop()

    async def next_piece(self) -> str | None:
        """The next piece, or None at the end."""
        piece = await self._pieces.get()
        self._room.release()
        return piece

    def _put(self, piece: str) -> None:
        while piece and not self._stopped.is_set():
            if self._room.acquire(timeout=0.05):
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
                return


class WasmBackend:
    """Runs the module anew for every call."""

    def __init__(self, options: WasmOptions, concurrency: int) -> None:
        self.model = options.path.name
        self.features: tuple[str, ...] = ("chat",) if options.chat else ()
        self._options = options
        self._concurrency = concurrency
        self._threads = DaemonThreads(concurrency, self.model)
        self._sandboxes: list[Sandbox] = []
        self._free: list[Sandbox] = []
        self._running: set[asyncio.Future[tuple[End, int, str]]] = set()

    async def start(self) -> None:
        """Compile it. Raises MeshError when it is no module that can run here."""
        path, options = self._options.path, self._options
        compiled = await asyncio.to_thread(Compiled, path)
        self.model = f"{path.name} {compiled.digest[:12]}"
        self._sandboxes = [
            Sandbox(compiled, fuel=options.fuel, memory_bytes=options.memory_mb << 20) for _ in range(self._concurrency)
        ]
        self._free = list(self._sandboxes)

    async def stop(self) -> None:
        """Free the memory, once what runs has ended."""
        for sandbox in self._sandboxes:
            sandbox.stop()
        if self._running:
            await asyncio.wait(self._running)
        self._threads.stop()
        for sandbox in self._sandboxes:
            sandbox.close()
        self._sandboxes, self._free = [], []

    async def check(self) -> None:
        """Raise MeshError when it is not compiled."""
        if not self._sandboxes:
            raise MeshError(f"{self.model} is not loaded", remedy="See the node's log.")

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Run it. What it has written to its standard error tells why there is no answer. Raises AttemptFailed."""
        if not self._free:
            raise AttemptFailed("unavailable", f"{self.model} is still at calls that were taken back")
        sandbox = self._free.pop()
        run, pieces = _Run(sandbox), Pieces(emit, call)
        stdin = call.content.encode() if self._options.input == "text" else msgspec.json.encode(call_fields(call))
        arguments = [self._options.path.name, *self._options.arguments]
        work = asyncio.wrap_future(self._threads.submit(run.run, stdin, arguments, self._options.env))
        self._running.add(work)
        work.add_done_callback(lambda work: self._over(work, sandbox))
        try:
            async with asyncio.timeout(self._options.limit_s):
                while (piece := await run.next_piece()) is not None:
                    await pieces.add(piece)
        except BaseException as error:
            run.stop()
            if isinstance(error, TimeoutError):
                why = f"it takes over {self._options.limit_s:g} s, the limit of a call"
                raise AttemptFailed("invalid", why) from None
            raise
        finally:
            await asyncio.wait({work})
            self._over(work, sandbox)
        self._judge(work.result(), run.said.decode(errors="replace").strip()[-_MAX_SAID:])
        return Answer(text=pieces.text, model=self.model)

    def _over(self, work: "asyncio.Future[tuple[End, int, str]]", sandbox: Sandbox) -> None:
        if work in self._running:
            self._running.discard(work)
            self._free.append(sandbox)

    def _judge(self, outcome: tuple[End, int, str], said: str) -> None:
        end, code, detail = outcome
        if end == "exited" and code == 0:
            return
        if end == "fuel":
            raise AttemptFailed(
                "invalid", f"it takes more than {self._options.fuel} units of fuel, the limit of a call"
            )
        if end == "stopped":
            raise AttemptFailed("failed", f"{self.model} was stopped")
        if end == "exited":
            why = said or f"{self.model} exited with status {code}"
            raise AttemptFailed("invalid" if code == _EXIT_INVALID else "failed", why)
        raise AttemptFailed("failed", f"{self.model}: {detail}" + (f": {said}" if said else ""))


KIND = Kind(WasmOptions, WasmBackend)
