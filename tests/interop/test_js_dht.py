"""Our DHT and js-libp2p's are one: each finds what the other provides, by the mesh's own protocol name."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.kit.javascript import copy_of, js_process, needs_node
from tests.kit.peer_child import real_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), needs_node]


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The other's next line."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(120):
        line = await process.stdout.readline()
    assert line, (await process.stderr.read()).decode()
    return dict(json.loads(line))


async def test_each_finds_what_the_other_provides(tmp_path: Path) -> None:
    directory = copy_of("js-client", tmp_path)
    shutil.copy(Path(__file__).with_name("dht.mjs"), directory)
    node, overlay = real_node(tmp_path)
    await node.start()
    try:
        await node.peers.provide(["domain/mathematics"])
        sought, provided = "/mesh/lab/domain/mathematics", "/mesh/lab/domain/poetry"
        async with js_process(
            directory, "dht.mjs", overlay.addresses[0], "/mesh/lab/kad/1.0.0", sought, provided
        ) as other:
            answer = await told(other)
            assert [one["peer"] for one in answer["found"]] == [node.peer_id]
            assert answer["found"][0]["addresses"] == [overlay.addresses[0].partition("/p2p/")[0]]
            await told(other)
            async with asyncio.timeout(60):
                while not (found := await node.peers.find_providers("domain/poetry", 10)):
                    await asyncio.sleep(0.1)
            assert [one.peer for one in found] == [answer["peer"]]
            assert found[0].addresses
        assert not node.of("peer.misbehaved")
    finally:
        await node.stop()
