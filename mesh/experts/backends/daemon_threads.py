"""A few threads for functions that may never return: unlike an executor's, they do not keep the process from ending."""

import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_NO_THREADS = sys.platform == "emscripten"


class DaemonThreads:
    """Runs functions in up to ``limit`` daemon threads, in the order in which they were submitted.

    WebAssembly has no threads: there a function runs before `submit` returns, and everything else waits for it.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._busy = 0

    def submit(self, function: Callable[..., Any], *arguments: object) -> "Future[Any]":
        """Run the function as soon as a thread is free."""
        future: Future[Any] = Future()
        if _NO_THREADS:
            _settle(future, function, arguments)
            return future
        with self._lock:
            self._busy += 1
            if len(self._threads) < min(self._busy, self._limit):
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put(lambda: self._run(future, function, arguments))
        return future

    def stop(self) -> None:
        """End each thread, once the function that it runs has returned."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _run(self, future: "Future[Any]", function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                _settle(future, function, arguments)
        finally:
            with self._lock:
                self._busy -= 1


def _settle(future: "Future[Any]", function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    try:
        result = function(*arguments)
    except StopIteration as error:  # asyncio's futures cannot carry it: whoever awaits it would wait for ever
        future.set_exception(RuntimeError(f"StopIteration: {error}"))
    except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it
        future.set_exception(error)
    else:
        future.set_result(result)
