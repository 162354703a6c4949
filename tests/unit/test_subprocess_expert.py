"""Programs that crash, babble, flood or hang: the call says so, the next one is answered, nothing is left behind."""

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from mesh.config import ExpertConfig
from mesh.errors import MeshError
from mesh.experts.backends import make_backend
from mesh.experts.backends.backoff import FIRST_S, LASTED_S, MOST_S, Backoff
from mesh.experts.backends.child import Child, ChildOptions, start_child
from mesh.experts.backends.environment import clean_environment
from mesh.experts.backends.subprocess import SubprocessBackend
from mesh.experts.calls import Answer, AttemptFailed, Call
from tests.kit.processes import is_running
from tests.kit.waiting import until

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-IS", str(ROOT / "tests/kit/lines_program.py")]


@asynccontextmanager
async def program(concurrency: int = 2, **options: Any) -> AsyncIterator[SubprocessBackend]:
    given = {"command": PROGRAM, "cancel_grace_s": 0.1, **options}
    backend = make_backend(
        ExpertConfig(name="it", backend="subprocess", domains=["any"], concurrency=concurrency, options=given)
    )
    assert isinstance(backend, SubprocessBackend)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


async def ask(backend: SubprocessBackend, content: str, pieces: list[str] | None = None, **more: Any) -> Answer:
    async def emit(piece: str) -> None:
        if pieces is not None:
            pieces.append(piece)

    call = Call(request="r1", expert="it", domain="any", content=content, timeout_ms=9000, **more)
    return await backend.answer(call, emit)


async def failure(backend: SubprocessBackend, content: str) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await ask(backend, content)
    return caught.value


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("die", "killed by SIGKILL"),
        ("garbage", "Loading model... 100%"),
        ("strange", "tokens_out"),
        ("long line", "a line of more than"),
        ("flood", "more than 16777216 characters"),
    ],
)
async def test_a_program_that_goes_wrong_fails_its_call_and_the_next_is_answered(what: str, said: str):
    async with program() as backend:
        failed = await failure(backend, what)
        assert (failed.kind, failed.retryable) == ("failed", True)
        assert said in failed.message
        await answers_again(backend)
        await backend.check()


async def answers_again(backend: SubprocessBackend) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await ask(backend, "hello")).text == "hello"
                return
            except AttemptFailed as failed:
                assert failed.kind == "unavailable"  # noqa: PT017 - it is being started again
                await asyncio.sleep(0.05)


async def test_it_is_started_again_by_itself_after_kill_9():
    async with program(concurrency=1) as backend:
        first = int((await ask(backend, "pid")).text)
        os.kill(first, 9)
        await until(lambda: bool(backend._programs) and backend._programs[0].child.pid != first, what="a new process")
        assert int((await ask(backend, "pid")).text) == backend._programs[0].child.pid


async def test_a_program_that_cannot_start_any_more_is_unavailable_and_says_why(tmp_path: Path):
    switch = tmp_path / "works"
    switch.touch()
    check = f"import os,sys;sys.exit('no model') if not os.path.exists({str(switch)!r}) else None"
    code = f"{check};exec(open({PROGRAM[-1]!r}).read())"
    async with program(concurrency=1, command=[sys.executable, "-IS", "-c", code]) as backend:
        switch.unlink()
        assert (await failure(backend, "die")).kind == "failed"
        await until(lambda: "exited with status 1" in backend._problem, what="the failed start")
        assert (await failure(backend, "hello")).kind == "unavailable"
        with pytest.raises(MeshError, match="exited with status 1"):
            await backend.check()
        switch.touch()
        await answers_again(backend)


@pytest.mark.parametrize("turns", range(6))
async def test_who_is_cancelled_while_it_starts_a_program_leaves_none(turns: int) -> None:
    before = set(psutil.Process().children())
    options = ChildOptions(command=PROGRAM)
    starting = asyncio.create_task(start_child(options, os.environ))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    (outcome,) = await asyncio.gather(starting, return_exceptions=True)
    if isinstance(outcome, Child):
        await outcome.end()
    await until(lambda: set(psutil.Process().children()) <= before, what="the end of the program")
    gc.collect()  # a pipe that is still open is an error of the test's


async def test_a_program_that_hears_a_cancel_is_not_killed_and_who_does_not_is():
    async with program(concurrency=2, parallel=2, command=[*PROGRAM, "threads"], cancel_grace_s=60) as backend:
        before = (await ask(backend, "pid")).text
        work = asyncio.create_task(ask(backend, "until cancelled", pieces := []))
        await until(lambda: "".join(pieces) == "hello", what="the first pieces")
        work.cancel()
        await asyncio.wait({work}, timeout=60)
        assert work.cancelled()
        assert (await ask(backend, "pid")).text == before
    async with program(concurrency=1) as backend:
        before = (await ask(backend, "pid")).text
        work = asyncio.create_task(ask(backend, "forever", pieces := []))
        await until(lambda: "".join(pieces) == "hello", what="the first pieces")
        work.cancel()
        await asyncio.wait({work}, timeout=60)
        assert work.cancelled()
        assert (await ask(backend, "pid")).text != before
        assert not psutil.pid_exists(int(before))


async def test_what_the_program_started_ends_with_it():
    async with program(concurrency=1) as backend:
        work = asyncio.create_task(ask(backend, "child", pieces := []))
        await until(lambda: bool(pieces), what="the child's id")
        child = int(pieces[0])
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await until(lambda: not is_running(child), what="the end of the child")


async def test_stopping_leaves_no_process():
    async with program(concurrency=3) as backend:
        work = [asyncio.create_task(ask(backend, "forever")) for _ in range(3)]
        await until(lambda: len(backend._programs) == 3, what="a process for each call")
        pids = [each.child.pid for each in backend._programs]
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


async def test_it_inherits_no_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("WANTED", "yes")
    async with program(concurrency=1, env={"GIVEN": "too"}, pass_env=["WANTED"]) as backend:
        found = json.loads((await ask(backend, "environment")).text)
    assert found["WANTED"] == "yes"
    assert found["GIVEN"] == "too"
    assert found["PATH"] == os.environ["PATH"]
    assert "sk-secret" not in str(found)


def test_a_clean_environment_has_what_is_named_and_what_is_given_wins():
    node = {"PATH": "/bin", "TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "s", "LANG": "C"}
    assert clean_environment(node, ["TOKEN"], {"LANG": "de"}) == {"PATH": "/bin", "TOKEN": "t", "LANG": "de"}


async def test_a_slow_reader_holds_the_program_back():
    async with program(concurrency=1) as backend:
        gate, seen = asyncio.Event(), []

        async def emit(piece: str) -> None:
            seen.append(len(piece))
            await gate.wait()

        call = Call(request="r1", expert="it", domain="any", content="flood", timeout_ms=9000)
        work = asyncio.create_task(backend.answer(call, emit))
        await until(lambda: bool(seen), what="the first piece")
        process = psutil.Process(backend._programs[0].child.pid)
        await until(lambda: process.status() == psutil.STATUS_SLEEPING, what="a program that waits")
        assert len(seen) == 1
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_call_has_the_documented_fields_and_an_answer_all_that_it_may_have():
    async with program() as backend:
        chat = json.dumps({"messages": [{"role": "user", "content": "call"}]})
        seen = json.loads((await ask(backend, "call", options={"a": 1}, chat=chat)).text)
        assert {**seen, "id": "1"} == {
            "type": "call", "id": "1", "request": "r1", "domain": "any", "task": "answer", "content": "call",
            "chat": json.loads(chat), "options": {"a": 1}, "timeout_ms": 9000,
        }  # fmt: skip
        answer = await ask(backend, "hello")
        assert (answer.model, answer.tokens_in, answer.tokens_out) == ("lines 2", 2, 5)
        assert answer.finish_reason == "stop"
        assert backend.model == "lines 1"


async def test_what_it_prints_to_its_standard_error_is_logged():
    with structlog.testing.capture_logs() as logged:
        async with program(concurrency=1) as backend:
            await ask(backend, "log half of the model is missing")
            await until(lambda: any(e.get("line") == "half of the model is missing" for e in logged), what="the line")


async def test_the_example_is_what_the_document_says():
    async with program(command=[sys.executable, str(ROOT / "examples/lines_expert.py")]) as backend:
        assert (await ask(backend, "hello there", pieces := [])).text == "HELLO THERE "
        assert pieces == ["HELLO ", "THERE "]
        assert (await failure(backend, " ")).kind == "invalid"


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_long_life():
    backoff = Backoff()
    pauses = [backoff.after(1.0) for _ in range(9)]
    assert pauses[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert pauses[-1] == MOST_S
    assert backoff.after(LASTED_S) == FIRST_S
