"""What the exact experts have in common: a library that does the work, in processes that can be killed."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mesh.errors import MeshError
from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool
from mesh.experts.calls import Answer, Call, Emit


class PooledBackend:
    """Runs the function ``job`` (``module:name``) of a worker process on each request.

    A subclass names it, and the ``packages`` that it needs; the model is these with their versions.
    """

    features: tuple[str, ...] = ()
    job: str
    packages: tuple[str, ...]

    def __init__(self, options: WorkerOptions, _concurrency: int) -> None:
        self.model = self.packages[0]
        self._pool = WorkerPool(self.job, options)

    async def start(self) -> None:
        """Start the first worker. Raises MeshError when a package is missing."""
        try:
            self.model = ", ".join(f"{name} {version(name)}" for name in self.packages)
        except PackageNotFoundError as error:
            raise MeshError(f"{error.name} is not installed", remedy=f"Run `pip install {error.name}`.") from None
        await self._pool.start()

    async def stop(self) -> None:
        """Kill the workers."""
        await self._pool.stop()

    async def check(self) -> None:
        """Make sure that a worker runs."""
        await self._pool.check()

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Do the work; input that is not understood is ``invalid``, with examples of what is."""
        text = await self._pool.run(call.content, self.settings(call))
        await emit(text)
        return Answer(text=text, model=self.model)

    def settings(self, call: Call) -> dict[str, Any]:
        """What the job gets beside the text."""
        return dict(call.options)
