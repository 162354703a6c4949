"""The Python client without asyncio: ``with Mesh.connect() as mesh: print(mesh.ask("…").text)``."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from mesh.api.messages import NodeStatus
from mesh.api.pieces import How
from mesh.errors import MeshError
from mesh.experts.queries import Outcome

if TYPE_CHECKING:
    from mesh.api.client import Mesh

T = TypeVar("T")


class SyncMesh:
    """`mesh.api.client.Mesh` with an event loop in a thread of its own. Any number of threads may call it."""

    def __init__(self, mesh: "Mesh") -> None:
        self._mesh = mesh
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def connect(cls, home: Path | str | None = None) -> "SyncMesh":
        """See `Mesh.connect`. Use the result as a context manager."""
        from mesh.api.client import Mesh

        return cls(Mesh.connect(home))

    def open(self) -> "SyncMesh":
        """Connect. Raises NodeUnreachable when no node answers."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(self._loop,), name="mesh", daemon=True)
        self._thread.start()
        try:
            self._wait(self._mesh.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def close(self) -> None:
        """Disconnect; requests that run are taken back."""
        self._wait(self._mesh.__aexit__(None, None, None))
        self._end()

    def __enter__(self) -> "SyncMesh":
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, content: str = "", *, on_text: Callable[[str], None] | None = None, **how: Unpack[How]) -> Outcome:
        """See `Mesh.ask`. ``on_text`` is called in the thread of the connection."""
        return self._wait(self._mesh.ask(content, on_text=on_text, **how))

    def stream(self, content: str = "", **how: Unpack[How]) -> Iterator[str]:
        """The pieces of the answer as they come; leaving the loop early takes the request back.

        Raises what `ask` raises. The generator's value is the Outcome: ``outcome = yield from mesh.stream("…")``.
        """
        pieces = self._mesh.stream(content, **how)
        try:
            while (piece := self._wait(_next(pieces))) is not None:
                yield piece
        finally:
            self._wait(pieces.aclose())

    def status(self) -> NodeStatus:
        """See `Mesh.status`."""
        return self._wait(self._mesh.status())

    def acknowledge(self, alert: str, *, actor: str, note: str = "") -> None:
        """See `Mesh.acknowledge`."""
        self._wait(self._mesh.acknowledge(alert, actor=actor, note=note))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise MeshError("there is no connection", remedy="Use `with Mesh.connect() as mesh:`.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C: the work is not to go on
            future.cancel()
            raise

    def _end(self) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None
        assert thread is not None
        self._loop = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped; then other threads' calls, which are open, learn that the client is closed."""
    loop.run_forever()
    if calls := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.wait(calls))


async def _next(pieces: Any) -> str | None:  # noqa: ANN401 - an asynchronous iterator of str
    return await anext(pieces, None)
