"""Exact mathematics by sympy: a small grammar that never evaluates text, in processes that can be killed."""

import importlib.metadata

from mesh.errors import MeshError
from mesh.experts.backend import Kind
from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool
from mesh.experts.calls import Answer, Call, Emit


class MathematicsBackend:
    """Answers requests such as ``solve x^2 - 5x + 6 = 0``; see docs/experts.md for what it understands."""

    features: tuple[str, ...] = ()
    model = "sympy"

    def __init__(self, options: WorkerOptions, _concurrency: int) -> None:
        self._pool = WorkerPool("mesh.experts.backends.mathematics.solver:answer", options)

    async def start(self) -> None:
        """Start the first worker. Raises MeshError when sympy is missing."""
        try:
            self.model = f"sympy {importlib.metadata.version('sympy')}"
        except importlib.metadata.PackageNotFoundError:
            raise MeshError("sympy is not installed", remedy="Run `pip install sympy`.") from None
        await self._pool.start()

    async def stop(self) -> None:
        """Kill the workers."""
        await self._pool.stop()

    async def check(self) -> None:
        """Make sure that a worker runs."""
        await self._pool.check()

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Calculate; input that is not understood is ``invalid``, with examples of what is."""
        text = await self._pool.run(call.content, dict(call.options))
        await emit(text)
        return Answer(text=text, model=self.model)


KIND = Kind(WorkerOptions, MathematicsBackend)
