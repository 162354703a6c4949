"""The gateway of a real node, asked by the official OpenAI client; some of its experts are on another node."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from mesh.demo.nodes import NodeProcess, until
from tests.kit.cli import mesh
from tests.kit.nodes import MATHS, config, connected, offered, python_expert, running_node, tables
from tests.kit.openai_server import Exchange, ModelServer, model_server

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

REMOTE = (
    python_expert("patient", "tests.kit.slow_experts:patient", "waiting"),
    python_expert("dripping", "tests.kit.slow_experts:dripping", "reasoning"),
    python_expert("endless", "tests.kit.slow_experts:until_cancelled", "hanging"),
    python_expert("breaking", "tests.kit.slow_experts:breaking", "breaking"),
    python_expert("held", "tests.kit.slow_experts:held", "holding"),
)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def model(name: str, url: str, options: str) -> str:
    return f"""
[[experts]]
name = "{name}"
backend = "openai"
domains = ["language"]
options = {{ base_url = "{url}", model = "tiny", {options} }}
"""


async def replies(exchange: Exchange) -> None:
    """A model that calls its tool when it has one and was not answered yet, and else says what it was last told."""
    body = exchange.request.body
    if exchange.request.path == "/v1/embeddings":
        data = [{"index": place, "embedding": [float(len(text)), 1.0]} for place, text in enumerate(body["input"])]
        await exchange.json(200, {"data": data, "usage": {"prompt_tokens": 3}})
        return
    await exchange.begin()
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        for arguments in ("", '{"city":', '"Bern"}'):
            piece = {
                "index": 0,
                "id": "call_1",
                "function": {"name": "weather"[: 7 * (not arguments)], "arguments": arguments},
            }
            await exchange.chunk({"choices": [{"delta": {"tool_calls": [piece]}}]})
        await exchange.chunk({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    else:
        for word in f"you said {body['messages'][-1]['content']}".split(" "):
            await exchange.piece(word + " ")
        await exchange.chunk({"choices": [{"delta": {}, "finish_reason": "length"}]})
    await exchange.usage(11, 4)
    await exchange.line("data: [DONE]")


@dataclass
class Place:
    node: NodeProcess
    other: NodeProcess
    server: ModelServer
    url: str
    client: Any  # its types tell apart what a test of many shapes need not


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    root = Path(tmp_path_factory.mktemp("gateway"))
    async with model_server() as server, running_node(root, "other", config("other", *REMOTE)) as other:
        server.reply = replies
        experts = (
            model("chatty", server.base_url, "tools = true"),
            model("vectors", server.base_url, "embeddings = true"),
            MATHS,
        )
        peers = [(await other.status()).addresses[0]]
        async with running_node(root, "node", config("node", *experts, peers=peers)) as node:
            await connected(node, other)
            await offered(node, len(REMOTE) + len(experts))
            url = (await node.status()).gateway_url
            async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
                yield Place(node, other, server, url, client)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


async def test_the_models_are_experts_domains_and_auto(place: Place) -> None:
    listed = [model.id async for model in await place.client.models.list()]
    assert listed[0] == "mesh/auto"
    assert {"mesh/mathematics", "mesh/waiting", "chatty", "solver", "patient"} <= set(listed)
    assert (await place.client.models.retrieve("mesh/waiting")).id == "mesh/waiting"


async def test_a_chat_is_answered_and_names_its_request(place: Place) -> None:
    raw = await place.client.chat.completions.with_raw_response.create(model="chatty", messages=said("hello there"))
    answer = raw.parse()
    assert answer.choices[0].message.content == "you said hello there "
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 4, 15)
    assert place.server.requests[-1].body["messages"] == said("hello there")
    why = await mesh(place.node.home.root, "why", raw.headers["x-request-id"], "--json")
    assert json.loads(why.output)["decisions"][0]["recomputed"] == "identical"


@pytest.mark.parametrize("name", ["mesh/auto", "mesh/mathematics", "solver"])
async def test_every_kind_of_model_finds_its_expert(place: Place, name: str) -> None:
    answer = await place.client.chat.completions.create(model=name, messages=said("What is 17*23?"))
    assert answer.choices[0].message.content == "391"
    assert answer.model == name
    assert answer.mesh["expert"] == "solver"


async def test_pieces_come_as_they_are_made(place: Place, tmp_path: Path) -> None:
    stream = await place.client.chat.completions.create(
        model="held", messages=said(str(tmp_path)), stream=True, stream_options={"include_usage": True}
    )
    came: list[str] = []
    chunks = []
    async for chunk in stream:
        chunks.append(chunk)
        if chunk.choices and chunk.choices[0].delta.content:
            came.append(chunk.choices[0].delta.content)
            (tmp_path / "go").touch()  # the expert waits for it with its second piece
    assert came == ["first ", "second"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert len({chunk.id for chunk in chunks}) == 1


async def test_tools_are_passed_through_and_their_results_back(place: Place) -> None:
    messages: list[dict[str, object]] = [{"role": "user", "content": "What is the weather?"}]
    first = await place.client.chat.completions.create(model="mesh/language", messages=messages, tools=[WEATHER])
    (call,) = first.choices[0].message.tool_calls or []
    assert first.choices[0].finish_reason == "tool_calls"
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call_1", "weather", {"city": "Bern"})
    assert place.server.requests[-1].body["tools"] == [WEATHER]
    messages += [
        first.choices[0].message.model_dump(include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = await place.client.chat.completions.create(model="mesh/language", messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "you said sunny "


async def test_calls_of_tools_stream(place: Place) -> None:
    stream = await place.client.chat.completions.create(
        model="chatty", messages=said("What is the weather?"), tools=[WEATHER], stream=True
    )
    chunks = [chunk async for chunk in stream]
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert [call.function.arguments for call in calls if call.function] == ['{"city":"Bern"}']
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_completions_answer_each_prompt(place: Place) -> None:
    answer = await place.client.completions.create(model="solver", prompt=["2+2", "3*3"])
    assert [choice.text for choice in answer.choices] == ["4", "9"]
    requests = {choice.mesh["request"] for choice in answer.choices}  # type: ignore[attr-defined]
    assert len(requests) == 2
    alone = await place.client.completions.create(model="solver", prompt="2+2")
    assert alone.mesh["expert"] == "solver"  # type: ignore[attr-defined]
    stream = await place.client.completions.create(model="dripping", prompt="a b", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "a b "


async def test_responses_whole_and_streamed(place: Place) -> None:
    answer = await place.client.responses.create(model="chatty", input="hello", instructions="Be brief.")
    assert answer.output_text == "you said hello "
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15
    async with place.client.responses.stream(model="dripping", input="a b c") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == "a b c "
    assert kinds.count("response.output_text.delta") == 3
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


async def test_responses_pass_tools_through(place: Place) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    answer = await place.client.responses.create(model="chatty", input="What is the weather?", tools=[tool])
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bern"})
    items = [
        {"role": "user", "content": "What is the weather?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    after = await place.client.responses.create(model="chatty", input=items, tools=[tool])
    assert after.output_text == "you said rain "


@pytest.mark.parametrize("name", ["vectors", "mesh/auto"])
async def test_embeddings_in_both_encodings(place: Place, name: str) -> None:
    answer = await place.client.embeddings.create(model=name, input=["a", "abc"], encoding_format="float")
    assert [entry.embedding for entry in answer.data] == [[1.0, 1.0], [3.0, 1.0]]
    packed = await place.client.embeddings.create(model=name, input="abc")  # the client's default is base64
    assert packed.data[0].embedding == [3.0, 1.0]


CHAT = "/v1/chat/completions"
WORDS = [{"type": "text", "text": "1+1"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}
GOOD = {"model": "solver", "messages": [{"role": "user", "content": "1+1"}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (CHAT, {**GOOD, "model": "nobody"}, 404, "does not exist"),
        (CHAT, {**GOOD, "model": "mesh/astrology"}, 404, "mesh/astrology"),
        (CHAT, {**GOOD, "messages": []}, 400, "messages"),
        (CHAT, {**GOOD, "messages": [{"role": "user", "content": ""}]}, 400, "no message of the chat has any text"),
        (CHAT, {**GOOD, "messages": [{"role": "user", "content": [*WORDS, PICTURE]}]}, 404, "it does not offer chat"),
        (CHAT, {**GOOD, "messages": [{"role": "user", "content": [PICTURE]}]}, 400, "no message of the chat has any"),
        (CHAT, {**GOOD, "messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
        (CHAT, {**GOOD, "messages": "hello"}, 400, "messages"),
        (CHAT, {**GOOD, "temperature": "hot"}, 400, "temperature"),
        (CHAT, {**GOOD, "temperature": 1e308}, 400, "temperature"),
        (CHAT, {**GOOD, "max_tokens": -1}, 400, "max_tokens"),
        (CHAT, {**GOOD, "n": 5}, 400, "n = 5"),
        (CHAT, {**GOOD, "mesh": {"timeout_s": -1}}, 400, "timeout_s"),
        (CHAT, {**GOOD, "mesh": {"strategy": "hope"}}, 400, "strategy"),
        (CHAT, {**GOOD, "mesh": {"unknown": 1}}, 400, "unknown"),
        (CHAT, {"model": "solver"}, 400, "messages is missing"),
        (CHAT, [], 400, "body"),
        (CHAT, "\ud800", 400, "JSON"),
        (CHAT, b"{", 400, "JSON"),
        (CHAT, b"[" * 100_000, 400, "JSON"),
        (CHAT, b"\xff\xfe", 400, "JSON"),
        (CHAT, b" " * (8 << 20) + b"{}", 413, "8388608"),
        ("/v1/completions", {"model": "solver", "prompt": []}, 400, "prompt"),
        ("/v1/completions", {"model": "solver", "prompt": ""}, 400, "prompt"),
        ("/v1/completions", {"model": "solver", "prompt": ["1", "2"], "stream": True}, 400, "one prompt"),
        ("/v1/embeddings", {"model": "vectors", "input": []}, 400, "1 to 2048"),
        ("/v1/embeddings", {"model": "solver", "input": "x"}, 404, "it does not offer embeddings"),
        ("/v1/responses", {"model": "solver", "input": [{"type": "picture"}]}, 400, "picture"),
        ("/v1/responses", {"model": "solver", "input": "x", "previous_response_id": "y"}, 400, "previous_response_id"),
    ],
)  # fmt: skip
async def test_bad_input_has_its_status_and_says_what_is_wrong(
    place: Place, path: str, body: object, status: int, words: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(base_url=place.url, timeout=30) as client:
        answer = await client.post(path, content=data, headers={"content-type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    request = answer.headers["x-request-id"]
    async with tables(place.node) as found:

        async def recorded() -> bool:
            rows = [row for row in await found.requests(limit=50) if row["request"] == request]
            return bool(rows) and rows[0]["state"] in ("rejected", "failed")

        await until(recorded, within=60, what=f"{request} is not in the tables")


async def test_only_json_is_taken_and_other_paths_and_methods_are_refused(place: Place) -> None:
    async with httpx.AsyncClient(base_url=place.url, timeout=30) as client:
        assert (await client.post(CHAT, content=json.dumps(GOOD))).status_code == 415
        nowhere = (await client.get("/v1/nowhere")).json()["error"]
        assert nowhere["code"] == "not_found"
        assert nowhere["message"] == "GET /v1/nowhere: Not Found; GET /openapi.json says what there is"
        assert (await client.get(CHAT)).status_code == 405
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).status_code == 200
        assert set((await client.get("/openapi.json")).json()["paths"]) >= {CHAT, "/v1/embeddings"}


async def test_a_deadline_that_passes_is_a_504(place: Place) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await place.client.chat.completions.create(
            model="patient", messages=said("20000 late"), extra_body={"mesh": {"timeout_s": 0.3}}
        )
    assert caught.value.status_code == 504
    assert caught.value.code == "expired"


async def test_a_stream_that_breaks_says_so_after_what_was_delivered(place: Place) -> None:
    stream = await place.client.chat.completions.create(model="breaking", messages=said("a b"), stream=True)
    pieces: list[str] = []

    async def read() -> None:
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")

    with pytest.raises(openai.APIError, match="broke"):
        await read()
    assert "".join(pieces) == "a b "


@pytest.mark.parametrize("stream", [False, True])
async def test_hanging_up_stops_the_work_on_the_other_node(place: Place, tmp_path: Path, *, stream: bool) -> None:
    file = tmp_path / "progress"
    asking = asyncio.create_task(
        place.client.chat.completions.create(model="endless", messages=said(str(file)), stream=stream)
    )

    async def begun() -> bool:
        return file.exists() and file.read_text() == "began\n"

    async def stopped() -> bool:
        return file.read_text() not in ("", "began\n")

    await until(begun, within=60, what="the expert was not asked")
    asking.cancel()
    hung_up = time.time()
    await asyncio.gather(asking, return_exceptions=True)
    await until(stopped, within=60, what="the expert works on for nobody")
    took_s = float(file.read_text()) - hung_up
    print(f"hanging up stopped the expert of the other node after {took_s * 1000:.0f} ms")
    assert took_s < 30, "the request itself would have had longer"


async def test_fifty_at_once(place: Place) -> None:
    async def ask(number: int) -> str | None:
        answer = await place.client.chat.completions.create(model="solver", messages=said(f"{number}*2"))
        return answer.choices[0].message.content

    assert await asyncio.gather(*map(ask, range(50))) == [str(number * 2) for number in range(50)]


async def test_a_key_is_needed_from_the_first_key_on_and_its_quota_holds(tmp_path: Path) -> None:
    async with running_node(tmp_path, "keyed", config("keyed", MATHS)) as node:
        url = f"{(await node.status()).gateway_url}/v1"
        ran = await mesh(node.home.root, "keys", "add", "alice", "--requests-per-minute", "3")
        secret = ran.output.strip()
        assert secret not in node.home.gateway_keys.read_text()
        assert node.home.gateway_keys.stat().st_mode & 0o777 == 0o600
        async with AsyncOpenAI(base_url=url, api_key=secret, max_retries=0) as client:
            for _ in range(3):
                await client.chat.completions.create(model="solver", messages=said("1+1"))
            with pytest.raises(openai.RateLimitError, match="3 requests per minute"):
                await client.models.list()
        async with AsyncOpenAI(base_url=url, api_key="mesh-wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError, match="not known"):
                await client.models.list()
        (await mesh(node.home.root, "keys", "add", "alice")).refused(78, "already")
        (await mesh(node.home.root, "keys", "add", "bob", "--days", "-1")).refused(78, "--days -1: the least is 0")
        await mesh(node.home.root, "keys", "add", "bob", "--days", "1e-9")
        listed = json.loads((await mesh(node.home.root, "keys", "--json")).output.splitlines()[0])
        assert listed["name"] == "alice"
        assert "hash" not in listed
        await mesh(node.home.root, "keys", "revoke", "alice")
        async with AsyncOpenAI(base_url=url, api_key=secret, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with tables(node) as found:
            await found.wait_for((await node.status()).stored_position, timeout=60)
        ran = await mesh(node.home.root, "requests", "--json")
        callers = [json.loads(line)["caller"] for line in ran.output.splitlines()]
        assert callers.count("key:alice") >= 3


async def test_the_network_is_not_let_in_without_a_key(tmp_path: Path) -> None:
    node = NodeProcess("open", tmp_path)
    node.prepare(config("open", extra='[gateway]\nhost = "0.0.0.0"'))
    (await mesh(node.home.root, "up", within=60)).refused(78, "let anybody in", "mesh keys add")
