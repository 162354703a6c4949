"""The OpenAI backend against a model server on a real socket: what is sent, and what each failure becomes."""

import asyncio

import pytest

from mesh.config import ExpertConfig
from mesh.errors import MeshError
from mesh.experts.backends import make_backend
from mesh.experts.calls import Answer, AttemptFailed, Call
from tests.kit.openai_server import Exchange, ModelServer, model_server


def call(content: str = "say hello", **options) -> Call:
    return Call(request="r1", expert="it", domain="any", content=content, timeout_ms=10_000, options=options)


async def ask(server: ModelServer, asked: Call | None = None, **options) -> tuple[Answer, list[str]]:
    settings = {"base_url": server.base_url, "model": "tiny", **options}
    backend = make_backend(ExpertConfig(name="it", backend="openai", domains=["any"], options=settings))
    await backend.start()
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    try:
        return await backend.answer(asked or call(), emit), pieces
    finally:
        await backend.stop()


async def failure_of(server: ModelServer) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await ask(server)
    return caught.value


async def check(server: ModelServer, model: str = "tiny") -> None:
    settings = {"base_url": server.base_url, "model": model}
    backend = make_backend(ExpertConfig(name="it", backend="openai", domains=["any"], options=settings))
    await backend.start()
    try:
        await backend.check()
    finally:
        await backend.stop()


async def test_the_answer_comes_in_pieces_with_usage_and_the_servers_model():
    async with model_server() as server:
        answer, pieces = await ask(server)
    assert pieces == list("hello")
    assert (answer.text, answer.model, answer.tokens_in, answer.tokens_out) == ("hello", "tiny-v2", 7, 5)


async def test_what_is_sent():
    async with model_server() as server:
        await ask(server, call(max_tokens=5, unknown=1), system="Be brief.", defaults={"temperature": 0.5, "n": 1})
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert "authorization" not in request.headers
    assert request.body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0.5,
        "n": 1,
    }


async def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    async with model_server() as server:
        await ask(server, api_key_env="SOME_KEY")
        assert server.requests[0].headers["authorization"] == "Bearer secret"


async def test_messages_of_the_call_replace_the_prompt():
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    async with model_server() as server:
        await ask(server, call(messages=messages))
        assert server.requests[0].body["messages"] == messages


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid"),
        (413, "invalid"),
        (422, "invalid"),
        (401, "unavailable"),
        (404, "unavailable"),
        (429, "overloaded"),
        (500, "failed"),
        (503, "unavailable"),
    ],
)
async def test_a_status_becomes_a_kind_with_the_servers_own_words(status, kind):
    async def refuse(exchange: Exchange) -> None:
        await exchange.json(status, {"error": {"message": "in its own words"}})

    async with model_server() as server:
        server.reply = refuse
        failure = await failure_of(server)
    assert (failure.kind, failure.message) == (kind, f"HTTP {status} from 127.0.0.1: in its own words")


async def test_nobody_listening_is_unavailable():
    async with model_server() as server:
        pass
    failure = await failure_of(server)
    assert (failure.kind, failure.retryable) == ("unavailable", True)
    assert server.base_url in failure.message


async def test_a_stream_that_ends_too_early_is_no_answer():
    async def ends(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.piece("hel")

    async with model_server() as server:
        server.reply = ends
        failure = await failure_of(server)
    assert failure.kind == "unavailable"
    assert "before the answer was complete" in failure.message


async def test_an_error_in_the_stream_is_a_failure():
    async def breaks(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.piece("hel")
        await exchange.chunk({"error": {"message": "out of memory"}})

    async with model_server() as server:
        server.reply = breaks
        failure = await failure_of(server)
    assert (failure.kind, failure.message) == ("failed", "the model server reports: out of memory")


@pytest.mark.parametrize("data", ["nonsense", "[1]", "null", '"x"'])
async def test_what_is_no_chunk_is_a_failure(data):
    async def babbles(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.line(f"data: {data}")

    async with model_server() as server:
        server.reply = babbles
        assert (await failure_of(server)).kind == "failed"


@pytest.mark.parametrize(
    "odd",
    [{}, {"choices": []}, {"choices": [{"delta": {}}]}, {"choices": [{"delta": {"content": None}}]}, {"choices": 5}],
)
async def test_chunks_without_content_comments_and_blank_data_are_passed_over(odd):
    async def chatters(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.line(": keep-alive")
        await exchange.line("event: x")
        await exchange.line("data:")
        await exchange.chunk(odd)
        await exchange.piece("hi")
        await exchange.line("data: [DONE]")

    async with model_server() as server:
        server.reply = chatters
        answer, _ = await ask(server)
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("hi", -1, -1)


async def test_cancelling_closes_the_stream_so_that_the_model_stops():
    async def endless(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.piece("a")
        await asyncio.Event().wait()

    async with model_server() as server:
        server.reply = endless
        asking = asyncio.create_task(ask(server))
        while not server.requests:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait({asking})
        async with server.changed, asyncio.timeout(60):
            await server.changed.wait_for(lambda: server.broken_off == 1)
    assert asking.cancelled()


async def test_a_check_asks_for_the_models():
    async with model_server() as server:
        server.models = ["tiny:latest", "other"]
        await check(server)
        with pytest.raises(MeshError, match=r"does not have the model 'huge'. It has: tiny:latest, other"):
            await check(server, "huge")
    with pytest.raises(MeshError, match="does not answer as it should"):
        await check(server)


async def test_a_check_of_something_else_than_a_model_server_fails():
    async with model_server() as server:
        server.models = "x"
        await_wrong = make_backend(
            ExpertConfig(
                name="it",
                backend="openai",
                domains=["any"],
                options={"base_url": server.base_url.removesuffix("/v1") + "/web", "model": "tiny"},
            )
        )
        server.reply = _page
        await await_wrong.start()
        with pytest.raises(MeshError, match="does not answer as it should"):
            await await_wrong.check()
        await await_wrong.stop()


async def _page(exchange: Exchange) -> None:
    await exchange.json(200, ["a page"])
