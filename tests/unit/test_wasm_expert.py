"""Modules that trap, loop, grow, flood and bend pointers: each ends its own call, and the node never notices."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.config import ExpertConfig
from mesh.errors import MeshError
from mesh.experts.backends import make_backend
from mesh.experts.backends.wasi import BADF, FAULT, INVAL, NOSYS, SIGNATURES, SUCCESS, Wasi
from mesh.experts.backends.wasm import WasmBackend
from mesh.experts.calls import AttemptFailed, Call
from tests.kit.hosting import nowhere
from tests.kit.waiting import until

MODULE = str(Path(__file__).parents[1] / "kit/expert.wat")


@asynccontextmanager
async def module(concurrency: int = 2, **options: Any) -> AsyncIterator[WasmBackend]:
    given = {"path": MODULE, **options}
    config = ExpertConfig(name="it", backend="wasm", domains=["any"], concurrency=concurrency, options=given)
    backend = make_backend(config)
    assert isinstance(backend, WasmBackend)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


def asked(content: str) -> Call:
    return Call(request="r1", expert="it", domain="any", content=content, timeout_ms=9000)


async def ask(backend: WasmBackend, content: str) -> str:
    return (await backend.answer(asked(content), nowhere)).text


@pytest.mark.parametrize(
    ("content", "options", "kind", "said"),
    [
        ("trap", {}, "failed", "unreachable"),
        ("forever", {"fuel": 100_000}, "invalid", "100000 units of fuel"),
        ("forever", {"limit_s": 0.2}, "invalid", "over 0.2 s"),
        ("memory", {"memory_mb": 1}, "failed", "unreachable"),
        ("bad pointer", {}, "failed", "status 21"),
        ("?", {}, "invalid", "the text is too long for this module"),
        ("import", {}, "failed", "path_open"),
        ("out", {}, "failed", "more than 16777216 characters"),
    ],
)
async def test_what_a_module_does_wrong_is_its_calls_failure_alone(content: str, options: dict, kind: str, said: str):
    async with module(concurrency=1, **options) as backend:
        for _ in range(2):
            with pytest.raises(AttemptFailed, match=said) as caught:
                await ask(backend, content)
            assert caught.value.kind == kind
        backend._options = backend._options.model_copy(update={"limit_s": 60.0})
        if "fuel" not in options:
            assert await ask(backend, "hello") == "hello"
        await backend.check()


async def test_an_endless_module_holds_up_neither_the_loop_nor_its_neighbour():
    async with module(concurrency=2) as backend:
        endless = asyncio.create_task(ask(backend, "forever"))
        await until(lambda: bool(backend._running), what="the endless call")
        for _ in range(20):
            assert await ask(backend, "hello") == "hello"
        assert not endless.done()
        endless.cancel()
        done, _ = await asyncio.wait({endless}, timeout=30)
        assert done


async def test_cancelling_before_it_began_stops_it_too():
    async with module(concurrency=1) as backend:
        for _ in range(50):
            work = asyncio.create_task(ask(backend, "forever"))
            await asyncio.sleep(0)
            work.cancel()
            done, _ = await asyncio.wait({work}, timeout=30)
            assert done
        assert await ask(backend, "hello") == "hello"


async def test_many_at_once_do_not_mix():
    async with module(concurrency=8) as backend:
        texts = [f"{number} is mine, with ä and 日本" * 20 for number in range(8)]
        assert await asyncio.gather(*(ask(backend, text) for text in texts)) == texts


async def test_a_slow_reader_holds_the_module_back():
    async with module(concurrency=1) as backend:
        gate, seen = asyncio.Event(), []

        async def emit(piece: str) -> None:
            seen.append(piece)
            await gate.wait()

        work = asyncio.create_task(backend.answer(asked("out"), emit))
        await until(lambda: bool(seen), what="the first piece")
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert len(seen) == 1
        assert await ask(backend, "hello") == "hello"


async def test_the_whole_call_is_json_on_its_input_when_that_is_wanted():
    async with module(input="call") as backend:
        said = json.loads(await ask(backend, "hello"))
        assert (said["content"], said["domain"], said["chat"]) == ("hello", "any", None)


async def test_its_name_is_the_file_and_what_is_in_it():
    async with module() as backend:
        assert backend.model.startswith("expert.wat ")
        assert len(backend.model) == len("expert.wat ") + 12


async def test_what_is_no_command_is_refused_with_what_it_lacks(tmp_path: Path):
    (tmp_path / "library.wat").write_text('(module (func (export "add")))')
    with pytest.raises(MeshError, match="does not export _start or memory"):
        async with module(path=str(tmp_path / "library.wat")):
            pass


class Memory:
    """64 KiB, as `mesh.experts.backends.wasi.GuestMemory`."""

    def __init__(self) -> None:
        self.data = bytearray(65536)

    def read(self, start: int, length: int) -> bytes:
        if start + length > len(self.data):
            raise IndexError
        return bytes(self.data[start : start + length])

    def write(self, start: int, data: bytes) -> None:
        if start + len(data) > len(self.data):
            raise IndexError
        self.data[start : start + len(data)] = data


def wasi(stdin: bytes = b"", **variables: str) -> tuple[Wasi, Memory, list[tuple[int, bytes]]]:
    out: list[tuple[int, bytes]] = []
    return Wasi(stdin, ["it", "-v"], variables, lambda to, data: out.append((to, data)), lambda: None), Memory(), out


def test_arguments_and_variables_are_laid_out_as_c_wants_them():
    it, memory, _ = wasi(A="1")
    assert it.call("args_sizes_get", memory, (0, 4)) == SUCCESS
    assert memory.read(0, 8) == bytes([2, 0, 0, 0, 6, 0, 0, 0])
    assert it.call("args_get", memory, (0, 100)) == SUCCESS
    assert memory.read(0, 8) == bytes([100, 0, 0, 0, 103, 0, 0, 0])
    assert memory.read(100, 6) == b"it\0-v\0"
    it.call("environ_get", memory, (0, 200))
    assert memory.read(200, 4) == b"A=1\0"


def test_no_arguments_make_a_function_raise():
    for name, parameters in SIGNATURES.items():
        for value in (0, 1, 65535, -1, 2**31 - 1, -(2**31)):
            it, memory, _ = wasi(b"text")
            assert it.call(name, memory, (value,) * len(parameters)) in (SUCCESS, BADF, FAULT, INVAL, NOSYS, 70)


def test_after_the_exit_nothing_happens_any_more():
    it, memory, out = wasi()
    it.call("proc_exit", memory, (3,))
    assert it.call("fd_write", memory, (1, 0, 1, 8)) == NOSYS
    assert (it.exit_code, out) == (3, [])
