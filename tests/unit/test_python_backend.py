"""Python callables of every kind as experts, well behaved and not."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from mesh.config import ExpertConfig
from mesh.errors import MeshError
from mesh.experts.backend import Backend
from mesh.experts.backends import make_backend
from mesh.experts.calls import Answer, AttemptFailed, Call
from tests.kit.waiting import until

began = threading.Event()
closed = threading.Event()
release = threading.Event()


def plain(content: str) -> str:
    return content.upper()


def with_call(content: str, call: Call) -> str:
    return f"{call.request}:{content}"


async def coroutine(content: str) -> str:
    await asyncio.sleep(0)
    return content + "!"


def pieces(content: str) -> Iterator[str]:
    yield from content


def pieces_of_list(content: str) -> Iterator[str]:
    return iter(list(content))


async def async_pieces(content: str) -> AsyncIterator[str]:
    for character in content:
        yield character


async def makes_pieces(content: str) -> Iterator[str]:
    return iter(content)


class Instance:
    async def __call__(self, content: str) -> str:
        return content

    def method(self, content: str) -> str:
        return content


instance = Instance()


def number(_content: str) -> int:
    return 5


def numbers(_content: str) -> Iterator[int]:
    yield 5


def refuses(_content: str) -> str:
    raise AttemptFailed("invalid", "only numbers")


def stops(_content: str) -> str:
    raise StopIteration


def endless(_content: str) -> Iterator[str]:
    try:
        began.set()
        while True:
            yield "x"
    finally:
        closed.set()


def stuck(_content: str) -> str:
    began.set()
    release.wait(60)
    return "late"


@pytest.fixture(autouse=True)
def nothing_happened_yet() -> None:
    for event in (began, closed, release):
        event.clear()


@asynccontextmanager
async def running(name: str, concurrency: int = 2) -> AsyncIterator[Backend]:
    config = ExpertConfig(
        name="it", backend="python", domains=["any"], concurrency=concurrency, options={"path": f"{__name__}:{name}"}
    )
    backend = make_backend(config)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


async def ask(backend: Backend, content: str = "abc") -> tuple[Answer, list[str]]:
    emitted: list[str] = []

    async def emit(piece: str) -> None:
        emitted.append(piece)

    call = Call(request="r1", expert="it", domain="any", content=content, timeout_ms=1000)
    return await backend.answer(call, emit), emitted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", ["ABC"]),
        ("with_call", ["r1:abc"]),
        ("coroutine", ["abc!"]),
        ("pieces", ["a", "b", "c"]),
        ("pieces_of_list", ["a", "b", "c"]),
        ("async_pieces", ["a", "b", "c"]),
        ("makes_pieces", ["a", "b", "c"]),
        ("instance", ["abc"]),
        ("instance.method", ["abc"]),
    ],
)
async def test_every_kind_of_callable(name: str, expected: list[str]):
    async with running(name) as backend:
        answer, emitted = await ask(backend)
    assert (emitted, answer.text) == (expected, "".join(expected))
    assert backend.model.endswith(f":{name}")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("number", "failed", "returned int, not str or an iterator"),
        ("numbers", "failed", "yielded int, not str"),
        ("refuses", "invalid", "only numbers"),
    ],
)
async def test_what_is_not_text_is_a_failure(name: str, kind: str, message: str):
    async with running(name) as backend:
        with pytest.raises(AttemptFailed, match=message) as caught:
            await ask(backend)
    assert caught.value.kind == kind


async def test_stop_iteration_does_not_hang():
    async with running("stops") as backend:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(ask(backend), 30)


async def test_a_generator_is_closed_when_its_caller_goes():
    async with running("endless") as backend:
        asking = asyncio.create_task(ask(backend))
        await until(began.is_set, what="the call in its thread")
        asking.cancel()
        await asyncio.wait({asking})
        await until(closed.is_set, what="the end of the generator")


async def test_threads_that_hang_make_the_expert_unavailable_until_they_return():
    async with running("stuck", concurrency=1) as backend:
        await backend.check()
        asking = asyncio.create_task(ask(backend))
        await until(began.is_set, what="the call in its thread")
        asking.cancel()
        await asyncio.wait({asking})
        with pytest.raises(MeshError, match=r"all 1 threads of .*stuck are held") as caught:
            await backend.check()
        assert "async" in caught.value.remedy
        release.set()
        await until(lambda: not backend._threads._busy, what="the thread")
        await backend.check()


async def test_threads_that_work_are_no_reason_to_be_unavailable():
    async with running("stuck", concurrency=1) as backend:
        asking = asyncio.create_task(ask(backend))
        await until(began.is_set, what="the call in its thread")
        await backend.check()
        release.set()
        assert (await asking)[0].text == "late"


def test_a_function_that_never_returns_does_not_keep_the_process_alive():
    program = (
        "import asyncio, threading\n"
        "from mesh.experts.backends.daemon_threads import DaemonThreads\n"
        "DaemonThreads(1, 'x').submit(threading.Event().wait)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=True).returncode == 0
