"""MCP servers that hang, lie, babble or die: the call says so, the session begins anew, nothing is left behind."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mesh.config import ExpertConfig
from mesh.errors import MeshError
from mesh.experts.backends import make_backend
from mesh.experts.backends.mcp import McpBackend
from mesh.experts.backends.mcp.http import HttpTransport
from mesh.experts.backends.mcp.stdio import StdioTransport
from mesh.experts.backends.mcp.tools import Tool, tools_in, understand
from mesh.experts.calls import AttemptFailed, Call
from tests.kit.hosting import nowhere
from tests.kit.openai_server import Exchange, model_server
from tests.kit.waiting import until

PROGRAM = [sys.executable, "-IS", str(Path(__file__).parents[1] / "kit/mcp_program.py")]


@asynccontextmanager
async def server(*arguments: str, **options: Any) -> AsyncIterator[McpBackend]:
    given = options if "url" in options else {"command": [*PROGRAM, *arguments], **options}
    backend = make_backend(ExpertConfig(name="it", backend="mcp", domains=["any"], options=given))
    assert isinstance(backend, McpBackend)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


def asked(content: str, **options: Any) -> Call:
    return Call(request="r1", expert="it", domain="any", content=content, timeout_ms=9000, options=options)


async def ask(backend: McpBackend, content: str, **options: Any) -> str:
    return (await backend.answer(asked(content, **options), nowhere)).text


async def failure(backend: McpBackend, content: str) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await ask(backend, content)
    return caught.value


def pid_of(backend: McpBackend) -> int:
    assert backend._session is not None
    transport = backend._session._transport
    assert isinstance(transport, StdioTransport)
    assert transport._child is not None
    return transport._child.pid


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("echo: hello", "hello"),
        ("echo hello there", "hello there"),
        ('add {"a": 2, "b": 3}', '{"sum": 5}'),
        ('{"tool": "add", "arguments": {"a": 1, "b": 1}}', '{"sum": 2}'),
        ('{"name": "echo", "arguments": {"text": "x"}}', "x"),
    ],
)
async def test_a_text_names_a_tool_and_its_arguments(content: str, answer: str):
    async with server() as backend:
        assert await ask(backend, content) == answer
        assert backend.model == "kit 1"


async def test_the_options_of_a_call_name_them_too_and_the_tools_can_be_listed():
    async with server(tools=["echo", "add"]) as backend:
        assert await ask(backend, "", tool="add", arguments={"a": 20, "b": 22}) == '{"sum": 42}'
        assert await ask(backend, "hello", tool="echo") == "hello"
        listed = json.loads(await ask(backend, "list tools"))
        assert [tool["name"] for tool in listed] == ["echo", "add"]
        assert (await failure(backend, "die: now")).kind == "invalid"


async def test_the_pages_of_the_list_are_read_and_what_is_no_tool_is_left_out():
    async with server() as backend:
        assert list(backend.tools)[:4] == ["echo", "add", "hang", "die"]
        assert backend.tools["echo"].repeatable
        assert not backend.tools["add"].repeatable


async def test_a_server_that_says_that_its_tools_changed_is_asked_for_them_before_the_next_call():
    async with server() as backend:
        assert (await failure(backend, "fresh: hello")).kind == "invalid"
        await ask(backend, "grow: fresh")
        assert "fresh" in [tool["name"] for tool in json.loads(await ask(backend, "list tools"))]
        assert (await failure(backend, "die: now")).kind == "failed"
        await backend.check()
        assert "fresh" not in backend.tools


async def test_one_that_takes_a_tool_away_that_is_to_be_used_cannot_serve(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mesh.experts.backends.mcp._PING_S", 60)
    async with server(tools=["echo"]) as backend:
        backend._options.tools.append("gone")
        assert backend._session is not None
        backend._session.tools_changed = True
        for _ in range(2):
            with pytest.raises(MeshError, match="no tool 'gone'"):
                await backend.check()
        assert (await failure(backend, "echo: hello")).kind == "unavailable"
        backend._options.tools.remove("gone")
        assert await ask(backend, "echo: hello") == "hello"


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        ("die: now", "failed", "killed by SIGKILL"),
        ("garbage: please", "failed", "Server listening on stdio"),
        ("flood: please", "failed", "a line of more than"),
        ("lie: please", "failed", "neither a result nor an error"),
        ("fail: please", "failed", "the disk is full"),
        ("error: please", "failed", "the server is tired"),
        ('add {"a": "x"}', "invalid", "must be numbers"),
        ("add: 2 and 3", "invalid", "as a JSON object: a, b"),
        ("sing: a song", "invalid", "The tools are: echo, add"),
        ("", "invalid", "no tool is named"),
    ],
)
async def test_what_goes_wrong_is_the_calls_failure_alone(content: str, kind: str, said: str):
    async with server() as backend:
        failed = await failure(backend, content)
        assert (failed.kind, failed.retryable) == (kind, False)  # a tool may have acted: nobody else is asked
        assert said in failed.message
        async with asyncio.timeout(60):
            assert await ask(backend, "echo: hello") == "hello"
        await backend.check()


async def test_a_tool_that_hangs_is_given_up_and_told_so():
    async with server(call_timeout_s=0.3) as backend:
        before = pid_of(backend)
        assert "over 0.3 s" in (await failure(backend, "hang: on")).message
        backend._options = backend._options.model_copy(update={"call_timeout_s": 60.0})
        async with asyncio.timeout(60):
            while "notifications/cancelled" not in json.loads(await ask(backend, "echo: seen")):
                await asyncio.sleep(0.01)
        assert pid_of(backend) == before


async def test_a_server_that_does_not_answer_a_ping_is_ended_and_begun_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mesh.experts.backends.mcp._PING_S", 0.2)
    async with server("deaf") as backend:
        before = pid_of(backend)
        with pytest.raises(MeshError, match="does not answer a ping"):
            await backend.check()
        assert not psutil.pid_exists(before)
        assert await ask(backend, "echo: hello") == "hello"
        assert pid_of(backend) != before


async def test_kill_9_of_an_idle_server_is_noticed_and_mended_by_the_check():
    async with server() as backend:
        before = pid_of(backend)
        os.kill(before, 9)
        await until(lambda: backend._session is not None and bool(backend._session.lost), what="the loss")
        await backend.check()
        assert pid_of(backend) != before
    assert backend._session is None


async def test_it_inherits_no_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with server(env={"ROOT": "/srv"}) as backend:
        found = json.loads(await ask(backend, "env: all"))
    assert found["ROOT"] == "/srv"
    assert "sk-secret" not in str(found)


async def test_over_http_a_session_is_kept_and_both_kinds_of_response_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN", "t0ken")
    async with model_server() as http:
        http.reply = _http
        url = http.base_url.replace("/v1", "/mcp")
        async with server(url=url, token_env="TOKEN") as backend:
            assert backend.model == "web 2"
            assert await ask(backend, "echo: hello") == "hello"
            await backend.check()
            assert "HTTP 500" in (await failure(backend, "echo: break")).message
            assert await ask(backend, "echo: again") == "again"
            assert "not a message" in (await failure(backend, "echo: junk")).message
            assert "without an answer" in (await failure(backend, "echo: nothing")).message
        calls = [request for request in http.requests if request.body.get("method") == "tools/call"]
        assert {request.headers["authorization"] for request in http.requests} == {"Bearer t0ken"}
        assert {request.headers["mcp-session-id"] for request in calls} == {"s1"}
        assert {request.headers["mcp-protocol-version"] for request in calls} == {"2025-06-18"}
        assert http.requests[-1].method == "DELETE"


async def test_over_http_what_the_server_says_unasked_is_heard():
    names, changed = ["echo"], asyncio.Event()

    async def serve(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.begin()
            await changed.wait()
            await exchange.chunk({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            await asyncio.Event().wait()
        elif exchange.request.body.get("method") == "tools/list":
            tools = [{"name": name} for name in names]
            await exchange.json(200, {"jsonrpc": "2.0", "id": exchange.request.body["id"], "result": {"tools": tools}})
        else:
            await _http(exchange)

    async with model_server() as http:
        http.reply = serve
        async with server(url=http.base_url.replace("/v1", "/mcp")) as backend:
            names.append("fresh")
            changed.set()
            async with asyncio.timeout(60):
                while "fresh" not in await ask(backend, "list tools"):
                    await asyncio.sleep(0.01)
    listening = next(request for request in http.requests if request.method == "GET")
    assert (listening.headers["mcp-session-id"], listening.headers["accept"]) == ("s1", "text/event-stream")


async def test_over_http_a_failure_of_the_listening_ends_the_session_and_says_why():
    async def serve(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.chunk({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await asyncio.Event().wait()

    def heard(message: dict[str, Any]) -> None:
        raise KeyError(message["method"])

    why: asyncio.Queue[str] = asyncio.Queue()
    async with model_server() as http:
        http.reply = serve
        transport = HttpTransport(http.base_url, "")
        await transport.open(heard, why.put_nowait)
        transport.listen()
        said = await asyncio.wait_for(why.get(), 30)
        await transport.close()
    assert http.base_url in said
    assert "KeyError('notifications/tools/list_changed')" in said


async def _http(exchange: Exchange) -> None:
    method, number = exchange.request.body.get("method"), exchange.request.body.get("id")
    if method == "initialize":
        about = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "web", "version": "2"},
        }
        data = json.dumps({"jsonrpc": "2.0", "id": number, "result": about}).encode()
        exchange._head(200, "application/json", f"Content-Length: {len(data)}", "Mcp-Session-Id: s1")
        exchange._writer.write(data)
        await exchange._writer.drain()
    elif method == "tools/list":
        tool = {"name": "echo", "inputSchema": {"properties": {"text": {"type": "string"}}}}
        await exchange.json(200, {"jsonrpc": "2.0", "id": number, "result": {"tools": [tool]}})
    elif method == "ping":
        await exchange.json(200, {"jsonrpc": "2.0", "id": number, "result": {}})
    elif method == "tools/call":
        await _http_call(exchange, number, exchange.request.body["params"]["arguments"]["text"])
    else:
        await exchange.json(202, {"jsonrpc": "2.0", "method": "notifications/message"})


async def _http_call(exchange: Exchange, number: int, text: str) -> None:
    if text == "break":
        await exchange.json(500, {})
    elif text == "junk":
        await exchange.json(200, [1, 2])
    else:
        await exchange.begin()
        await exchange.line(": a comment\nevent: message")
        await exchange.chunk({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
        if text != "nothing":
            content = [{"type": "text", "text": text}]
            await exchange.chunk({"jsonrpc": "2.0", "id": number, "result": {"content": content}})


@pytest.mark.parametrize("page", [{}, {"tools": None}, {"tools": 7}, {"tools": [7, None, {"name": ""}, {"name": []}]}])
def test_a_list_of_tools_that_is_none_has_none(page: dict):
    assert tools_in(page) == []


def test_a_single_tool_takes_the_whole_text():
    schema = {"properties": {"query": {"type": ["string", "null"]}, "top": {"type": "integer"}}, "required": ["query"]}
    tool = Tool("search", "", schema, repeatable=True)
    assert understand(asked("what is a mesh?"), {"search": tool}) == (tool, {"query": "what is a mesh?"})
