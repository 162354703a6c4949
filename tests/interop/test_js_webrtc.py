"""js-libp2p reaches a node by WebRTC-direct over libdatachannel and over Google's WebRTC, and is reached by one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.p2p.overlay import Connected, Disconnected, Misbehaved, Stream
from tests.kit.effort import thorough
from tests.kit.javascript import copy_of, js_process, needs_node
from tests.kit.overlays import PROTOCOL, Node, ProcessWorld

# It installs two implementations of WebRTC.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), needs_node, thorough]

LISTEN = "/ip4/127.0.0.1/udp/0/webrtc-direct"


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(120):
        line = await process.stdout.readline()
    assert line, (await process.stderr.read()).decode()
    return dict(json.loads(line))


async def echo(stream: Stream) -> None:
    while data := await stream.reader.read(65536):
        stream.writer.write(data)
        await stream.writer.drain()
    stream.writer.write_eof()


@asynccontextmanager
async def one_node(directory: Path) -> AsyncIterator[Node]:
    world = ProcessWorld(directory, count=1, common={"listen": [LISTEN]}, dht="")
    await world.start()
    try:
        yield world.nodes[0]
    finally:
        await world.stop()


@pytest.mark.parametrize("engine", ["libdatachannel", "google"])
async def test_what_node_and_what_browsers_have_dials_a_node(tmp_path: Path, engine: str) -> None:
    async with one_node(tmp_path) as node:
        directory = copy_of("js-webrtc", tmp_path)
        async with js_process(directory, "peer.js", "dial", engine, node.overlay.addresses[0]) as other:
            await node.heard.until(lambda: node.heard.streams, 120)
            await echo(node.heard.streams[0])
            answer = await told(other)
            assert (answer["remote"], answer["echoed"]) == (node.peer, 1 << 20)
            (fact,) = node.heard.of(Connected)
            assert (fact.peer, fact.transport, fact.direction) == (answer["peer"], "webrtc-direct", "inbound")
            await node.heard.until(lambda: node.heard.of(Disconnected), 60)
        assert not node.heard.of(Misbehaved)


async def test_a_node_dials_what_node_has(tmp_path: Path) -> None:
    directory = copy_of("js-webrtc", tmp_path)
    async with one_node(tmp_path) as node, js_process(directory, "peer.js", "listen", LISTEN) as other:
        answer = await told(other)
        await node.overlay.dial(answer["peer"], [answer["address"]], 60)
        stream = await node.overlay.open_stream(answer["peer"], PROTOCOL, 60)
        sent = bytes(range(256)) * 4096

        async def pour() -> None:
            stream.writer.write(sent)
            await stream.writer.drain()
            stream.writer.write_eof()

        async with asyncio.TaskGroup() as both:
            both.create_task(pour())
            async with asyncio.timeout(60):
                assert await stream.reader.read() == sent
        other.kill()
        await node.heard.until(lambda: node.heard.of(Disconnected), 60)
        assert not node.heard.of(Misbehaved)
