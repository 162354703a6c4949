"""A Python callable as an expert: ``options.path = "module:callable"``, or ``"folder/file.py:callable"``.

The callable takes the text of the call, and, when it has a second positional parameter, the whole
`mesh.experts.calls.Call`. It is a function, an async function, a generator or an async generator; it returns a
string or an iterator of the pieces of one. Everything that is not async runs in threads of its own.
"""

import asyncio
import importlib
import importlib.util
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Kind, Options
from mesh.experts.backends.daemon_threads import DaemonThreads
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

_T = TypeVar("_T")


class PythonOptions(Options):
    """``options`` of ``backend = "python"``."""

    path: str = Field(pattern=r"^[^:]+:[A-Za-z_][\w.]*$", description="module:callable, or file.py:callable")


class PythonBackend:
    """Calls one callable.

    Cancelling ends an async callable at its next ``await`` and a generator at its next piece. A plain function
    cannot be interrupted: the caller is answered at once, and its thread stays taken until it returns.
    """

    features: tuple[str, ...] = ()

    def __init__(self, options: PythonOptions, concurrency: int) -> None:
        module, _, name = options.path.rpartition(":")
        self.model = f"{Path(module).name}:{name}"
        self._path = options.path
        self._concurrency = concurrency
        self._function: Callable[..., object] | None = None
        self._wants_call = False
        self._threads = DaemonThreads(concurrency, self.model)
        self._abandoned: set[Future[Any]] = set()

    async def start(self) -> None:
        """Import the callable. Raises MeshError when there is none."""
        module, _, name = self._path.rpartition(":")
        try:
            function: object = await asyncio.to_thread(_load, module)
            for part in name.split("."):
                function = getattr(function, part)
        except _NoFile as error:
            raise MeshError(
                f"{self._path} cannot be imported: {error}",
                remedy="Correct options.path; relative to where the node was started, so best from the root.",
            ) from error
        except Exception as error:
            raise MeshError(
                f"{self._path} cannot be imported: {type(error).__name__}: {error}",
                remedy="Install its package where the node runs, or correct options.path.",
            ) from error
        self._use(function)

    def _use(self, function: object) -> None:
        if not callable(function):
            raise MeshError(f"{self._path} is {function!r}, not a callable", remedy="Correct options.path.")
        self._function = function
        self._wants_call = _positional_parameters(function) >= 2

    async def stop(self) -> None:
        """Let the threads go; one that still runs a plain function ends with it."""
        self._threads.stop()

    async def check(self) -> None:
        """Raise MeshError while every thread is held by a function that goes on though nobody waits for it."""
        self._abandoned = {future for future in self._abandoned if not future.done()}
        if len(self._abandoned) >= self._concurrency:
            raise MeshError(
                f"all {self._concurrency} threads of {self._path} are held by calls that were given up",
                remedy="Make it an async function or a generator, so that it can be cancelled.",
            )

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Call it; every piece that it yields is emitted."""
        assert self._function is not None
        arguments = (call.content, call) if self._wants_call else (call.content,)
        if _runs_on_the_loop(self._function):
            result = self._function(*arguments)
        else:
            result = await self._in_thread(self._function, *arguments)
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, str):
            await emit(result)
            return Answer(text=result, model=self.model)
        return Answer(text=await self._pass_on(result, emit, held=call.held), model=self.model)

    async def _pass_on(self, result: object, emit: Emit, *, held: bool) -> str:
        source = result if isinstance(result, AsyncIterator) else self._iterate(result)
        pieces = []
        try:
            async for piece in source:
                if not isinstance(piece, str):
                    raise AttemptFailed("failed", f"{self._path} yielded {type(piece).__name__}, not str")
                await emit(piece)
                if held:
                    pieces.append(piece)
        finally:
            if inspect.isasyncgen(source):
                await source.aclose()
        return "".join(pieces)

    async def _iterate(self, result: object) -> AsyncIterator[object]:
        if not isinstance(result, Iterator):
            raise AttemptFailed("failed", f"{self._path} returned {type(result).__name__}, not str or an iterator")
        end = object()
        try:
            while (piece := await self._in_thread(next, result, end)) is not end:
                yield piece
        finally:
            if inspect.isgenerator(result):
                await self._in_thread(_close, result)

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        future = self._threads.submit(function, *arguments)
        try:
            result: _T = await asyncio.wrap_future(future)
        finally:
            if not future.done():
                self._abandoned.add(future)
        return result


class _NoFile(Exception):
    """Said with its whole path."""


def _load(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    file = Path(module).resolve()
    if not file.is_file():
        raise _NoFile(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"mesh_expert_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _close(generator: object) -> None:
    """Run a generator's ``finally`` blocks; one whose piece is still being made closes itself when it is dropped."""
    if inspect.isgenerator(generator) and not generator.gi_running:
        generator.close()


def _positional_parameters(function: Callable[..., object]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin without a signature
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds for parameter in parameters)


def _runs_on_the_loop(function: Callable[..., object]) -> bool:
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


KIND = Kind(PythonOptions, PythonBackend)
