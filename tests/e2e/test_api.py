"""The node's API over NATS, as any client sees it, and the Python client over it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess, until
from mesh.errors import NodeUnreachable
from mesh.events.readers import load_credentials
from tests.kit.nodes import MATHS, config, python_expert, running_node, tables

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

EXPERTS = (
    python_expert("patient", "tests.kit.slow_experts:patient", "language"),
    python_expert("dripping", "tests.kit.slow_experts:dripping", "reasoning"),
    MATHS,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    async with running_node(Path(tmp_path_factory.mktemp("api")), "only", config("only", *EXPERTS)) as running:
        yield running


async def _client(node: NodeProcess) -> Client:
    credentials = load_credentials(node.home, "operator")
    client = Client()
    await client.connect(credentials.url, **credentials.options())
    return client


async def test_a_plain_client_asks_with_one_request(node: NodeProcess) -> None:
    client = await _client(node)
    try:
        query = {"content": "What is 17*23?", "domain": "mathematics"}
        reply = await client.request("mesh.api.ask", json.dumps({"call": "1", "query": query}).encode(), timeout=30)
        answer = json.loads(reply.data)
        assert answer["text"] == "391"
        assert answer["peers"] == [node.peer_id]
    finally:
        await client.close()


async def test_the_service_answers_ping_info_and_stats(node: NodeProcess) -> None:
    client = await _client(node)
    try:
        ping = json.loads((await client.request("$SRV.PING.mesh", b"", timeout=30)).data)
        assert ping["name"] == "mesh"
        info = json.loads((await client.request("$SRV.INFO.mesh", b"", timeout=30)).data)
        assert {"mesh.api.ask", "mesh.api.status"} <= {endpoint["subject"] for endpoint in info["endpoints"]}
        stats = json.loads((await client.request("$SRV.STATS.mesh", b"", timeout=30)).data)
        assert stats["endpoints"]
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("subject", "body", "says"),
    [
        ("mesh.api.ask", b"not json", "Invalid JSON"),
        ("mesh.api.ask", b'{"call": "x"}', "query"),
        ("mesh.api.ask", b'{"call": "x", "query": {"content": ""}}', "content"),
        ("mesh.api.ask", b'{"call": "x", "query": {"content": "a"}, "extra": 1}', "extra"),
        ("mesh.api.ask", b'{"call": "x", "query": {"content": "a", "domain": "NO!"}}', "domain"),
        ("mesh.api.ask", b'{"call": "x", "query": {"content": "a", "timeout_s": -1}}', "timeout_s"),
        ("mesh.api.alerts.acknowledge", b'{"alert": "none/such", "actor": "me"}', "none/such"),
    ],
)
async def test_bad_input_gets_a_clear_error(node: NodeProcess, subject: str, body: bytes, says: str) -> None:
    client = await _client(node)
    try:
        reply = await client.request(subject, body, timeout=30)
        assert reply.headers is not None
        assert reply.headers["Nats-Service-Error-Code"] in ("400", "422")
        assert says in json.loads(reply.data)["message"]
    finally:
        await client.close()


async def test_the_answer_streams_as_it_is_made(node: NodeProcess) -> None:
    pieces: list[str] = []
    async with Mesh.connect(node.home.root) as mesh:
        outcome = await mesh.ask("one two three", domain="reasoning", on_text=pieces.append)
    assert pieces == ["one ", "two ", "three "]
    assert outcome.text == "one two three "


async def test_cancelling_the_call_cancels_the_request(node: NodeProcess) -> None:
    async with Mesh.connect(node.home.root) as mesh, tables(node) as found:
        asking = asyncio.create_task(mesh.ask("60000 never", domain="language", timeout=60))

        async def working() -> bool:
            return (await mesh.status()).serving > 0

        await until(working, within=60, what="the request did not begin")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        async def over() -> bool:
            return (await mesh.status()).serving == 0

        await until(over, within=60, what="the expert went on working")

        async def recorded() -> bool:
            return any(row["state"] == "cancelled" for row in await found.requests(limit=100))

        await until(recorded, within=60, what="the cancellation was not projected")


async def test_a_request_that_takes_too_long_fails_with_its_kind(node: NodeProcess) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        with pytest.raises(RequestFailed) as failed:
            await mesh.ask("60000 never", domain="language", timeout=0.3)
    assert failed.value.kind == "expired"
    assert failed.value.request


async def test_nobody_serves_an_unknown_domain(node: NodeProcess) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        with pytest.raises(RequestFailed) as failed:
            await mesh.ask("anything", domain="astrology", timeout=5)
    assert failed.value.kind == "no_candidates"


async def test_a_home_without_a_node_says_so(tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable, match="mesh init"):
        Mesh.connect(tmp_path)
