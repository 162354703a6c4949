"""The journal is the truth: with everything else of a node deleted, everything is there again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess, until
from mesh.home import Home
from tests.kit.cli import mesh
from tests.kit.nodes import MATHS, config, running_node, tables, two_nodes

pytestmark = pytest.mark.e2e

KNOWN = (
    "peers", "connections", "experts", "requests", "attempts", "decisions", "peer_load", "health_samples",
    "peer_health", "nodes",
)  # fmt: skip
KEPT = ("identity.key", "config.toml", "broker/store")


async def test_everything_that_a_node_knows_comes_back_from_its_journal_alone(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, MATHS) as (node, _):
        async with Mesh.connect(node.home.root) as client:
            for number in range(3):
                assert (await client.ask(f"{number}+1", domain="mathematics")).text == str(number + 1)
            with pytest.raises(RequestFailed, match="no_candidates"):
                await client.ask("hi", domain="astrology")
        await until(lambda: _sampled(node), within=60, what="no health was sampled")
    assert (await mesh(node.home.root, "digest", "--check")).code == 0
    before = await _rebuilt(node.home)
    rows = await _counts(node)
    assert all(rows.values()), rows
    _forget(node.home)
    assert await _rebuilt(node.home) == before
    assert await _counts(node) == rows
    await _each_event_is_there_once(node.home, requests=rows["requests"])
    await node.start()
    try:
        status = await node.status()
        assert (status.epoch, status.position > before["position"]) == (2, True)
    finally:
        await node.stop()


async def test_the_tables_of_a_node_that_was_stopped_say_so(tmp_path: Path) -> None:
    async with running_node(tmp_path, "only", config("only", MATHS)) as node:
        pass
    async with tables(node) as found:
        (row,) = await found.nodes()
        assert (row["state"], row["stop_reason"]) == ("stopped", "received SIGTERM")
        assert row["stopped_at"] is not None
        assert [expert["state"] for expert in await found.experts()] == ["deregistered"]
        _, ((last,),) = await found.sql("SELECT min(position) FROM projection_checkpoints")
    ran = await mesh(node.home.root, "events", "tail", "--after", str(last - 1), "--no-follow", "--json")
    assert [json.loads(line)["event"]["type"] for line in ran.output.splitlines()] == ["mesh.journal.sealed"]


async def _sampled(node: NodeProcess) -> bool:
    async with tables(node) as found:
        health = await found.health()
    return {row["kind"] for row in health} == {"node", "peer"}


def _forget(home: Home) -> None:
    """Delete everything but the key, the settings and the store."""
    for path in sorted(home.root.rglob("*"), reverse=True):
        if not any(str(path.relative_to(home.root)).startswith(kept) for kept in KEPT) and path != home.broker:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


async def _rebuilt(home: Home) -> dict[str, Any]:
    """What all tables are when they are made anew, up to the last event."""
    ran = await mesh(home.root, "rebuild", "--json")
    assert ran.code == 0, ran.errors
    found: dict[str, Any] = json.loads(ran.output)
    return found


async def _counts(node: NodeProcess) -> dict[str, int]:
    async with tables(node) as found:
        return {name: (await found.sql(f"SELECT count(*) FROM {name}"))[1][0][0] for name in KNOWN}


async def _each_event_is_there_once(home: Home, *, requests: int) -> None:
    ran = await mesh(home.root, "events", "tail", "--after", "0", "--no-follow", "--json")
    events = [json.loads(line)["event"] for line in ran.output.splitlines()]
    assert len({event["id"] for event in events}) == len(events)
    received = [event["subject"] for event in events if event["type"] == "mesh.request.received"]
    assert len(set(received)) == len(received) == requests
