"""Small exact tools: unit conversion (pint), dates (dateutil) and JSON queries (JMESPath)."""

import importlib.metadata

from mesh.errors import MeshError
from mesh.experts.backend import Kind
from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool
from mesh.experts.calls import Answer, Call, Emit

_PACKAGES = ("pint", "python-dateutil", "jmespath")


class ToolsBackend:
    """Picks the tool that understands the request; see docs/experts.md for what each takes."""

    features: tuple[str, ...] = ()
    model = "tools"

    def __init__(self, options: WorkerOptions, _concurrency: int) -> None:
        self._pool = WorkerPool("mesh.experts.backends.tools.desk:answer", options)

    async def start(self) -> None:
        """Start the first worker. Raises MeshError when a package is missing."""
        try:
            versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
        except importlib.metadata.PackageNotFoundError as error:
            raise MeshError(
                f"the package {error.name} is not installed", remedy=f"Run `pip install {error.name}`."
            ) from None
        self.model = ", ".join(versions)
        await self._pool.start()

    async def stop(self) -> None:
        """Kill the workers."""
        await self._pool.stop()

    async def check(self) -> None:
        """Make sure that a worker runs."""
        await self._pool.check()

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Run one tool; a request that none understands is ``invalid``, with examples of what is."""
        text = await self._pool.run(call.content, dict(call.options))
        await emit(text)
        return Answer(text=text, model=self.model)


KIND = Kind(WorkerOptions, ToolsBackend)
