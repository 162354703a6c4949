"""Thousands of connections that come and go leave memory and descriptors as they were, at both ends.

Some hundred here, of which the first fill caches; ``CONNECTION_CYCLES=10000`` for the whole claim (some minutes).
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from mesh.p2p.overlay import Disconnected
from tests.kit.effort import thorough
from tests.kit.overlays import Node, ProcessWorld, pid_of

pytestmark = pytest.mark.e2e
CYCLES = int(os.environ.get("CONNECTION_CYCLES", "400"))
WARM_UP = 300
# One muxer that is kept by mistake is 6.5 KB: 2.6 MB here, 65 MB in the whole.
MAY_GROW_BYTES = (1 << 20) + CYCLES * 1024
MAY_GROW_FILES = 3


@dataclass(frozen=True)
class Held:
    rss: int
    files: int

    @classmethod
    def by(cls, node: Node) -> "Held":
        process = psutil.Process(pid_of(node))
        return cls(process.memory_info().rss, process.num_fds())


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    world = ProcessWorld(tmp_path, count=2)
    await world.start()
    yield world.nodes[0], world.nodes[1]
    await world.stop()


async def come_and_go(one: Node, other: Node, times: int) -> None:
    """Each dials in turn, with a stream on every tenth connection."""
    for turn in range(times):
        near, far = (one, other) if turn % 2 else (other, one)
        for node in (near, far):
            node.heard.clear()
        await near.dial(far)
        if turn % 10 == 0:
            stream, _ = await near.stream_to(far)
            stream.writer.write(b"hello")
        await near.overlay.disconnect(far.peer, "again")
        await far.heard.until(lambda far=far: far.heard.of(Disconnected))


@thorough
@pytest.mark.timeout(60 + CYCLES)
async def test_connections_that_come_and_go_leave_nothing_behind(pair: tuple[Node, Node]) -> None:
    await come_and_go(*pair, WARM_UP)
    before = [Held.by(node) for node in pair]
    await come_and_go(*pair, CYCLES)
    after = [Held.by(node) for node in pair]
    grown = [(now.rss - then.rss, now.files - then.files) for then, now in zip(before, after, strict=True)]
    print(f"{CYCLES} connections: bytes and descriptors more at either end {grown}")
    for size, files in grown:
        assert size < MAY_GROW_BYTES, f"{size} bytes more after {CYCLES} connections"
        assert files <= MAY_GROW_FILES, f"{files} descriptors more after {CYCLES} connections"
