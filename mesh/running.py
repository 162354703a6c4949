"""A node in the foreground: from its start until it is told to stop, or must not go on."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from mesh import garbage
from mesh.config import Config
from mesh.home import Home
from mesh.node import Node


async def run_node(home: Home, config: Config, *, ready_fd: int | None = None) -> None:
    """Run a node until SIGINT or SIGTERM. Raises MeshError when it cannot start or must not go on."""
    stopping: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    _on_signals(lambda name: None if stopping.done() else stopping.set_result(f"received {name}"))
    node = Node(home, config)
    if not await _is_done(node.start(), stopping):
        return
    garbage.settle()
    if ready_fd is not None:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
    failure = asyncio.create_task(node.failed(), name="watch the vital parts")
    watched: list[asyncio.Future[Any]] = [stopping, failure]
    await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    error = failure.result() if failure.done() else None
    failure.cancel()
    await node.stop(stopping.result() if stopping.done() else str(error))
    if error is not None:
        raise error


def _on_signals(stop: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)


async def _is_done(work: Coroutine[Any, Any, None], stopping: asyncio.Future[Any]) -> bool:
    """Do the work, or give it up when the node is told to stop before it is done: then it is not."""
    task = asyncio.create_task(work, name="start the node")
    both: list[asyncio.Future[Any]] = [task, stopping]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        return False
    task.result()
    return True
