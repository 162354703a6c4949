"""A node that comes back in another mesh: who knew it goes on missing it, and both say why until that is mended."""

import json
from functools import partial
from pathlib import Path

import pytest

from mesh.demo.nodes import NodeProcess, until
from tests.kit.cli import mesh
from tests.kit.nodes import acquainted, config, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]


async def test_a_peer_in_another_mesh_is_missed_once_and_told_why(tmp_path: Path) -> None:
    async with running_node(tmp_path, "stays", config("stays")) as stays:
        text = config("moves", peers=[(await stays.status()).addresses[0]])
        async with running_node(tmp_path, "moves", text) as moves:
            lost = f"peer_lost/{moves.peer_id}"
            await until(partial(acquainted, stays, moves), within=60, what="they did not get to know each other")
            await moves.kill()
            await until(partial(_told, stays, "alert.raised", lost, times=1), within=60, what="nobody missed it")

            moves.home.config_file.write_text(text.replace('mesh = "test"', 'mesh = "elsewhere"'))
            await moves.start()
            await until(partial(_told, stays, "peer.refused", "mesh", times=3), within=60, what="it was not refused")
            assert not await _told(stays, "alert.resolved", lost, times=1)
            status = " ".join((await mesh(moves.home.root, "status")).output.split())
            where = f"{stays.peer_id} is in 'test', this node in 'elsewhere'"
            assert f"a configured peer is in another mesh: {where}; change [node] mesh of the one" in status

            await moves.stop()
            moves.home.config_file.write_text(text)
            await moves.start()
            await until(partial(_told, stays, "alert.resolved", lost, times=1), within=60, what="it is still missed")
            assert list((await moves.status()).notices) == []
            assert not await _told(stays, "alert.raised", lost, times=2)


async def _told(node: NodeProcess, fact: str, about: str, *, times: int) -> bool:
    """Whether the node recorded so many such facts of an alert, or of a rule."""
    ran = await mesh(node.home.root, "events", "tail", "--after", "0", "--no-follow", "--only", fact, "--json")
    assert ran.code == 0, ran.errors
    events = (json.loads(line)["event"]["data"] for line in ran.output.splitlines())
    return sum(about in (event.get("alert"), event.get("rule")) for event in events) >= times
