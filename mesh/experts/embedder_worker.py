"""An embedding in a process of its own, which starts when the first text comes."""

import asyncio
import json

from mesh.errors import MeshError
from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool
from mesh.experts.calls import AttemptFailed
from mesh.experts.embedder import MAX_CHARS, EmbedderUnavailable, Vector

_LIMIT_S = 10.0


class WorkerEmbedder:
    """`Embedder`, by one of `mesh.experts.embedding_jobs`.

    The first call waits until it is loaded (a second or so). Where it cannot be started (its package is missing) it is
    not tried again.
    """

    def __init__(self, embedding: str = "wordllama") -> None:
        job = f"mesh.experts.embedding_jobs.{embedding}:embed"
        self._pool = WorkerPool(job, WorkerOptions(limit_s=_LIMIT_S, memory_mb=2048))
        self._loading: asyncio.Task[None] | None = None

    async def embed(self, texts: list[str]) -> list[Vector]:
        """See `Embedder.embed`."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._pool.start(), name="load the embedding")
        try:
            await asyncio.shield(self._loading)
            answer = await self._pool.run(json.dumps([text[:MAX_CHARS] for text in texts]), {})
        except AttemptFailed as failure:
            raise EmbedderUnavailable(f"the embedding failed: {failure.message}") from failure
        except MeshError as error:
            raise EmbedderUnavailable(f"there is no embedding: {error}") from error
        return [tuple(vector) for vector in json.loads(answer)]

    async def stop(self) -> None:
        """End the processes."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._pool.stop()
