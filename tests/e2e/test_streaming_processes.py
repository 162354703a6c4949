"""A stream through two nodes: the first piece at once, a slow reader holds the expert back, a lost node is said, a
long one is held nowhere, and parts follow each other.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess, until
from tests.kit.memory import MIB, Memory
from tests.kit.nodes import python_expert, tables, two_nodes
from tests.kit.slow_experts import pouring

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

EXPERTS = (
    python_expert("held", "tests.kit.slow_experts:held", "language"),
    python_expert("counting", "tests.kit.slow_experts:counting", "reasoning"),
    python_expert("dripping", "tests.kit.slow_experts:dripping", "coding"),
    python_expert("pouring", "tests.kit.slow_experts:pouring", "tool_use"),
)
LONG_MIB = 64
Nodes = tuple[NodeProcess, NodeProcess]
# What a stalled connection may hold: both kernels' buffers (4 MiB each at most) and the nodes' windows, of ~50 MB.
STALLED_PIECES = 100_000


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """The first is asked over HTTP, the second has the experts."""
    async with two_nodes(tmp_path_factory.mktemp("streaming"), *EXPERTS) as both:
        yield both


class Client:
    """A streamed chat completion, read by hand from a socket with a small buffer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def event(self) -> dict[str, Any]:
        """The next event of the stream; empty at its end."""
        while line := (await self.reader.readline()).strip():
            if line.startswith(b"data: "):
                return {} if line == b"data: [DONE]" else dict(json.loads(line[6:]))
        return await self.event() if not self.reader.at_eof() else {}

    async def piece(self) -> str:
        """The next text that is not empty."""
        while event := await self.event():
            assert "error" not in event, event
            if text := event["choices"][0]["delta"].get("content"):
                return str(text)
        raise AssertionError("the stream ended")

    def hang_up(self) -> None:
        self.writer.transport.abort()


async def streamed(node: NodeProcess, model: str, content: str) -> Client:
    host, _, port = (await node.status()).gateway_url.removeprefix("http://").partition("/")[0].partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=16384)
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": content}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    assert b" 200 " in await reader.readline()
    return Client(reader, writer)


async def test_the_first_piece_is_there_while_the_expert_waits(nodes: Nodes, tmp_path: Path) -> None:
    took_ms = [await first_piece_ms(nodes[0], tmp_path)]
    while took_ms[-1] >= 1000 and len(took_ms) < 5:  # the machine may have paused
        took_ms.append(await first_piece_ms(nodes[0], tmp_path))
    print(f"the first piece took {took_ms[-1]:.1f} ms through two nodes and HTTP")
    assert took_ms[-1] < 1000


async def first_piece_ms(node: NodeProcess, directory: Path) -> float:
    (directory / "go").unlink(missing_ok=True)
    client = await streamed(node, "held", str(directory))
    async with asyncio.timeout(60):
        assert await client.piece() == "first "
    took_ms = (time.time() - float((directory / "made").read_text())) * 1000
    (directory / "go").touch()
    async with asyncio.timeout(60):
        assert await client.piece() == "second"
    client.hang_up()
    return took_ms


async def test_a_slow_reader_holds_back_the_expert_of_the_other_node(nodes: Nodes, tmp_path: Path) -> None:
    file = tmp_path / "count"
    client = await streamed(nodes[0], "counting", f"{file} 400000")
    seen: list[tuple[float, int]] = []

    def made() -> int:
        text = file.read_text() if file.exists() else ""
        return int(text) if text.strip().isdigit() else 0

    async def stands_still() -> bool:
        count = made()
        if not seen or seen[-1][1] != count:
            seen.append((time.monotonic(), count))
        return count > 0 and time.monotonic() - seen[-1][0] > 1.5

    await until(stands_still, within=60, what="the expert was not held back")
    stalled = made()
    print(f"with a reader that does not read, the expert made {stalled} pieces of 16 bytes of 400000")
    assert stalled < STALLED_PIECES

    async def goes_on() -> bool:
        for _ in range(500):
            await client.piece()
        return made() > stalled

    await until(goes_on, within=60, what="the expert did not go on when the client read")
    client.hang_up()
    assert made() < 300_000
    await until(lambda: _idle(nodes[1]), within=60, what="the expert works on for nobody")


async def _idle(node: NodeProcess) -> bool:
    return (await node.status()).serving == 0


async def test_parts_follow_each_other_and_the_first_does_not_wait(nodes: Nodes, tmp_path: Path) -> None:
    parts = [{"content": str(tmp_path), "domain": "language"}, {"content": "one two", "domain": "coding"}]
    came: list[str] = []
    async with Mesh.connect(nodes[0].home.root) as mesh, asyncio.timeout(60):
        async with mesh.stream(parts=parts, timeout=60) as pieces, tables(nodes[0]) as found:
            came.append(await anext(pieces))

            async def second_is_answered() -> bool:
                _, rows = await found.sql("SELECT state FROM attempts WHERE part = 2")
                return [tuple(row) for row in rows] == [("answered",)]

            await until(second_is_answered, within=60, what="the second part had no answer")
            assert came[0].endswith("\n\nfirst")
            (tmp_path / "go").touch()
            came += [piece async for piece in pieces]
        assert "".join(came) == pieces.outcome.text
        assert pieces.outcome.text.split("\n\n")[1::2] == ["first second", "one two"]
        (tmp_path / "go").unlink()
        async with mesh.stream(parts=parts, timeout=60) as pieces:
            await anext(pieces)
    await until(lambda: _idle(nodes[1]), within=60, what="a part is worked on for nobody")


async def poured(mesh: Mesh, mebibytes: int, memory: Memory | None = None) -> tuple[str, str]:
    """Ask for so much, piece by piece; the request, and the digest of what came."""
    found, count = sha256(), 0
    pieces = mesh.stream(str(mebibytes), expert="pouring", delivery="pieces", timeout=300)
    async for piece in pieces:
        found.update(piece.encode())
        count += len(piece)
        if memory is not None and count % MIB == 0:
            memory.look()
    assert count == mebibytes * MIB
    assert (pieces.outcome.text, pieces.outcome.digest) == ("", found.hexdigest())
    return pieces.outcome.request, found.hexdigest()


async def recorded(node: NodeProcess, table: str, request: str, digest: str) -> None:
    """The node's tables know of all of the long answer."""
    async with tables(node) as found:

        async def so() -> bool:
            _, rows = await found.sql(f"SELECT answer_digest, answer_bytes FROM {table} WHERE request = '{request}'")
            return [tuple(row) for row in rows] == [(digest, LONG_MIB * MIB)]

        await until(so, within=60, what=f"the answer in {table}")


async def test_a_long_answer_goes_by_and_is_held_by_no_process(nodes: Nodes) -> None:
    statuses = [await node.status() for node in nodes]
    async with Mesh.connect(nodes[0].home.root) as mesh:
        await poured(mesh, 4)
        memory = Memory(pid for status in statuses for pid in (status.pid, status.processes["overlay"]))
        request, digest = await poured(mesh, LONG_MIB, memory)
        print(f"64 MiB went by; node and overlay, asking and serving, grew by {memory.grown} MiB")
        assert max(memory.grown) < LONG_MIB / 4
        with pytest.raises(RequestFailed, match="the limit is"):
            await mesh.ask("16", expert="pouring", timeout=60)
    expected = sha256()
    async for piece in pouring(str(LONG_MIB)):
        expected.update(piece.encode())
    assert digest == expected.hexdigest()
    await recorded(nodes[0], "requests", request, digest)
    await recorded(nodes[1], "served", request, digest)


async def test_a_model_whose_only_node_is_away_is_to_be_asked_for_again_and_is_there_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with two_nodes(tmp_path, EXPERTS[2]) as (first, second):
        url = f"{(await first.status()).gateway_url}/v1/chat/completions"
        body = {"model": "dripping", "messages": [{"role": "user", "content": "word"}]}
        async with httpx.AsyncClient(timeout=60) as client:
            there = await client.post(url, json=body)
            assert there.status_code == 200, there.text
            await second.kill()

            async def told_to_come_again() -> bool:
                answer = await client.post(url, json=body)
                assert answer.status_code in (200, 502, 503), answer.text
                return answer.headers.get("retry-after") == "2" and "dripping" in answer.json()["error"]["message"]

            await until(told_to_come_again, within=60, what="nobody said to try again")
            await second.start()

            async def answered() -> bool:
                return (await client.post(url, json=body)).status_code == 200

            await until(answered, within=60, what="the model is not there again")


async def test_a_node_that_dies_in_mid_stream_is_said_after_what_was_delivered(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, EXPERTS[2]) as (first, second):
        client = await streamed(first, "dripping", " ".join(["word"] * 400))
        assert [await client.piece() for _ in range(3)] == ["word "] * 3
        await second.kill()
        event: dict[str, Any] = {"choices": []}
        async with asyncio.timeout(60):
            while event and "error" not in event:
                event = await client.event()
        assert event["error"]["code"] == "broken_stream"
        assert "broke off after" in event["error"]["message"]
        client.hang_up()
        async with tables(first) as found:

            async def failed() -> bool:
                rows = await found.requests(limit=1)
                return [(row["state"], row["error_kind"]) for row in rows] == [("failed", "broken_stream")]

            await until(failed, within=60, what="the broken stream is not in the tables")
