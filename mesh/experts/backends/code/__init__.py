"""Python source, diagnosed for real: parsed by ``ast``, linted and formatted by ruff, its structure measured."""

import importlib.metadata
import sys

from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Kind
from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool
from mesh.experts.calls import Answer, Call, Emit

_RULES = ["E", "W", "F", "B", "C4", "PERF", "PIE", "RET", "S", "SIM", "UP"]


class CodeOptions(WorkerOptions):
    """``options`` of ``backend = "code"``."""

    rules: list[str] = Field(default=_RULES, min_length=1, description="Rule prefixes that ruff selects")
    line_length: int = Field(default=100, ge=40, le=320, description="Where ruff breaks lines")


class CodeBackend:
    """Answers Python source, bare or in a fenced block, with findings, structure and the formatted code."""

    features: tuple[str, ...] = ()
    model = "ruff"

    def __init__(self, options: CodeOptions, _concurrency: int) -> None:
        self._pool = WorkerPool("mesh.experts.backends.code.review:answer", options)
        self._settings = {"rules": options.rules, "line_length": options.line_length}

    async def start(self) -> None:
        """Start the first worker. Raises MeshError when ruff is missing."""
        try:
            version = importlib.metadata.version("ruff")
        except importlib.metadata.PackageNotFoundError:
            raise MeshError("ruff is not installed", remedy="Run `pip install ruff`.") from None
        self.model = f"ruff {version}, python {sys.version_info.major}.{sys.version_info.minor}"
        await self._pool.start()

    async def stop(self) -> None:
        """Kill the workers."""
        await self._pool.stop()

    async def check(self) -> None:
        """Make sure that a worker runs."""
        await self._pool.check()

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Review; text without Python in it is ``invalid``. ``options.source`` is taken before the text."""
        source = call.options.get("source")
        settings = {**self._settings, **({"source": source} if source is not None else {})}
        text = await self._pool.run(call.content, settings)
        await emit(text)
        return Answer(text=text, model=self.model)


KIND = Kind(CodeOptions, CodeBackend)
