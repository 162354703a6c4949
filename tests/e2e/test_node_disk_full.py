"""The disk fills up under a running node: it says so and ends, and what it had acknowledged is all there later."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess
from mesh.errors import NodeUnreachable
from mesh.processes import wait_for_exit
from tests.kit.cli import mesh
from tests.kit.nodes import config, python_expert, tables

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LEFT = 1_500_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of our own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(filler: Path, leave: int) -> None:
    """Make a file that takes all the room on its disk but ``leave`` bytes."""
    room = os.statvfs(filler.parent)
    filler.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - leave)))


async def ask_until_it_fails(node: NodeProcess, answered: list[str]) -> str:
    try:
        async with Mesh.connect(node.home.root) as client:
            while True:
                outcome = await client.ask("0 x", domain="language", delivery="whole", timeout=20)
                answered.append(outcome.request)
    except (RequestFailed, NodeUnreachable) as error:
        return str(error)


async def test_a_full_disk_is_said_clearly_and_nothing_that_was_acknowledged_is_lost(disk: Path) -> None:
    node = NodeProcess("full", disk)
    node.prepare(config("full", python_expert("patient", "tests.kit.slow_experts:patient")))
    await node.start()
    assert node.process is not None
    try:
        answered: list[str] = []
        fill(disk / "filler", LEFT)
        errors = await asyncio.gather(*(ask_until_it_fails(node, answered) for _ in range(16)))
        assert answered, "it was full before it began"
        assert any("disk of the event store is full" in error for error in errors), errors
        assert await asyncio.wait_for(wait_for_exit(node.process), 60) == 74
        last = (node.home.logs / "node.log").read_text().rstrip().rpartition("\nmesh: ")[2]
        assert last.startswith("the disk of the event store is full ("), last
        assert last.endswith("Free space there, then start the node again: nothing that was acknowledged is lost.")
        fill(disk / "more", 0)
        (await mesh(node.home.root, "up")).refused(73, str(node.home.root), "No space left", "room on its disk")
        for filler in ("filler", "more"):
            (disk / filler).unlink()
        await node.start()
        await everything_is_there(node, answered)
    finally:
        await node.stop()


async def everything_is_there(node: NodeProcess, answered: list[str]) -> None:
    status = await node.status()
    assert status.epoch == 2
    async with tables(node) as found:
        await found.wait_for(status.stored_position, timeout=60)
        states = {row["request"]: row["state"] for row in await found.requests(limit=100_000)}
    assert {states[request] for request in answered} == {"completed"}
    assert set(states.values()) <= {"completed", "failed", "cancelled", "interrupted"}
    async with Mesh.connect(node.home.root) as client:
        assert (await client.ask("0 again", domain="language")).text == "again"
    ran = await mesh(node.home.root, "audit", "verify")
    assert ran.code == 0, ran.output
    ran = await mesh(node.home.root, "digest", "--check")
    assert ran.code == 0, ran.output + ran.errors
