"""Clients of the NATS API that read slowly, stop reading, or are gone; the Python client with and without asyncio."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

from mesh.api.client import Mesh, RequestFailed
from mesh.api.sync import SyncMesh
from mesh.demo.nodes import NodeProcess, until
from mesh.errors import MeshError, NodeUnreachable
from mesh.events.readers import load_credentials
from tests.kit.cli import environment
from tests.kit.cli import mesh as command
from tests.kit.nodes import MATHS, config, python_expert, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

EXPERTS = (
    python_expert("dripping", "tests.kit.slow_experts:dripping", "reasoning"),
    python_expert("counting", "tests.kit.slow_experts:ceaseless", "language"),
    MATHS,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    async with running_node(Path(tmp_path_factory.mktemp("clients")), "only", config("only", *EXPERTS)) as running:
        yield running


async def idle(node: NodeProcess) -> None:
    async def over() -> bool:
        return (await node.status()).serving == 0

    await until(over, within=60, what="the expert works on for nobody")


async def begun(node: NodeProcess) -> None:
    async def working() -> bool:
        return (await node.status()).serving > 0

    await until(working, within=60, what="the request did not begin")


def counted(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


async def test_pieces_are_iterated_as_they_come(node: NodeProcess) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        answer = mesh.stream("one two three", expert="dripping")
        with pytest.raises(MeshError, match="not ended"):
            _ = answer.outcome
        assert [piece async for piece in answer] == ["one ", "two ", "three "]
        assert answer.outcome.text == "one two three "
        with pytest.raises(RequestFailed, match="no_candidates"):
            _ = [piece async for piece in mesh.stream("x", domain="astrology")]


async def test_leaving_the_loop_takes_the_request_back(node: NodeProcess, tmp_path: Path) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        async with mesh.stream(str(tmp_path / "a"), expert="counting") as pieces:
            async for _ in pieces:
                break
        await idle(node)
        async for _ in mesh.stream(str(tmp_path / "b"), expert="counting"):
            break
        await idle(node)


async def test_who_reads_slowly_holds_the_expert_back(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "count"
    async with Mesh.connect(node.home.root) as mesh, mesh.stream(str(file), expert="counting") as pieces:
        taken = 0
        async for _ in pieces:
            taken += 1
            if taken == 5:
                break
        before = -1
        while before != (now := counted(file)):  # until it stands still
            before = now
            await asyncio.sleep(0.5)
        assert 5 <= now < 200, f"{now} pieces were made for a caller who took 5"
        async for _ in pieces:
            taken += 1
            if taken == now + 50:
                break
    await idle(node)


ASKING = """
import asyncio, sys
from mesh.api.client import Mesh
async def main():
    async with Mesh.connect(sys.argv[1]) as mesh:
        print("asks", flush=True)
        await mesh.ask("600000 never", expert=sys.argv[2])
asyncio.run(main())
"""


async def test_a_caller_that_is_gone_is_not_worked_for(node: NodeProcess, tmp_path: Path) -> None:
    asker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASKING.replace("600000 never", str(tmp_path / "f")), str(node.home.root), "counting",
        env=environment(),
    )  # fmt: skip

    await begun(node)
    asker.kill()
    await asker.wait()
    await idle(node)


async def test_who_is_cancelled_while_the_client_is_closed_sees_a_cancellation(
    node: NodeProcess, tmp_path: Path
) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        asking = asyncio.create_task(mesh.ask(str(tmp_path / "c"), expert="counting"))
        await begun(node)
        asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await idle(node)


async def test_a_call_that_is_open_when_the_client_is_closed_says_that_it_was(
    node: NodeProcess, tmp_path: Path
) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        asking = asyncio.create_task(mesh.ask(str(tmp_path / "o"), expert="counting"))
        await begun(node)
    with pytest.raises(NodeUnreachable, match="the client was closed"):
        await asking
    await idle(node)


async def test_another_threads_call_ends_when_the_client_is_closed(node: NodeProcess, tmp_path: Path) -> None:
    for number in range(3):  # it is a race
        with Mesh.connect(node.home.root) as mesh:
            asking = asyncio.create_task(asyncio.to_thread(mesh.ask, str(tmp_path / f"{number}"), expert="counting"))
            await begun(node)
        with pytest.raises(NodeUnreachable, match="the client was closed"):
            await asyncio.wait_for(asking, 60)
        await idle(node)


async def test_a_plain_client_is_told_of_the_work_and_can_take_piece_by_piece(
    node: NodeProcess, tmp_path: Path
) -> None:
    credentials = load_credentials(node.home, "operator")
    client = Client()
    await client.connect(credentials.url, **credentials.options())
    try:
        inbox = client.new_inbox()
        replies = await client.subscribe(inbox)
        query = {"content": str(tmp_path / "n"), "expert": "counting"}
        ask = {"call": "plain", "query": query, "stream": True, "window": 2}
        await client.publish("mesh.api.ask", json.dumps(ask).encode(), reply=inbox)
        chunks: list[Msg] = []

        async def next_kind() -> str:
            message = await replies.next_msg(timeout=30)
            kind = (message.headers or {})["Mesh-Kind"]
            if kind == "chunk":
                chunks.append(message)
            return kind

        while len(chunks) < 2:  # it says that it is alive before them too, where it is slow
            await next_kind()
        assert [await next_kind() for _ in range(2)] == ["alive"] * 2, "it went beyond the window"
        await chunks[0].respond(b"")
        while len(chunks) < 3:
            await next_kind()
        assert chunks[2].data == b"3 "
        await replies.unsubscribe()
        await idle(node)  # nobody listens any more: that is enough
    finally:
        await client.close()


async def test_the_same_without_asyncio(node: NodeProcess) -> None:
    def use() -> tuple[str, list[str], str]:
        with Mesh.connect(node.home.root) as mesh:
            whole = mesh.ask("What is 17*23?", domain="mathematics").text
            pieces = list(mesh.stream("one two", expert="dripping"))
            with pytest.raises(RequestFailed, match="no_candidates"):
                mesh.ask("x", domain="astrology")
            return whole, pieces, mesh.status().peer_id

    assert await asyncio.to_thread(use) == ("391", ["one ", "two "], node.peer_id)


async def test_without_a_node_or_a_connection_it_says_so(node: NodeProcess, tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable, match="mesh init"):
        SyncMesh.connect(tmp_path)
    with pytest.raises(NodeUnreachable, match="async with"):
        await Mesh.connect(node.home.root).ask("x")
    with pytest.raises(MeshError, match=r"with Mesh\.connect"):
        SyncMesh.connect(node.home.root).ask("x")


async def test_why_takes_the_beginning_of_an_id(node: NodeProcess) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        request = (await mesh.ask("1+1", domain="mathematics")).request
    for given in (f"chatcmpl-{request}", f"resp_{request}", request[:30]):
        ran = await command(node.home.root, "why", given, "--json")
        assert json.loads(ran.output)["request"] == request, ran.errors
    (await command(node.home.root, "why", "deadbeef")).refused(1, "no request's id begins")
