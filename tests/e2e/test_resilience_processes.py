"""Five real nodes, one of which becomes many times slower: those who ask hardly notice, and the journal says why.

Nobody waits for the slow one, even while it is being found out. How little of it is felt in the last percent is what
tests/sim/test_resilience_sim.py counts, where no other process of the machine has a say in it.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mesh.api.client import Mesh
from mesh.demo.nodes import NodeProcess
from tests.kit.effort import thorough
from tests.kit.nodes import config, connected, offered, python_expert, running_node
from tests.kit.uneven_experts import SLOW_S

pytestmark = pytest.mark.e2e

AT_ONCE = 8
REQUESTS = 300


async def ask_many(asker: NodeProcess, requests: int) -> list[float]:
    """How many milliseconds each took, as the caller knows it."""
    todo, took = list(range(requests)), []

    async def ask_on(mesh: Mesh) -> None:
        while todo:
            number, began = todo.pop(), time.monotonic()
            outcome = await mesh.ask(f"question {number}", domain="language")
            took.append((time.monotonic() - began) * 1000)
            assert outcome.text == f"question {number}"

    async with Mesh.connect(asker.home.root) as mesh:
        await asyncio.gather(*(ask_on(mesh) for _ in range(AT_ONCE)))
    return sorted(took)


def p95(took: list[float]) -> float:
    return took[int(len(took) * 0.95)]


@thorough
async def test_one_of_five_that_becomes_slow_is_hardly_felt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    monkeypatch.setenv("SLOW_WHILE", str(slow))
    async with AsyncExitStack() as stack:

        async def start(name: str, work: str) -> NodeProcess:
            text = config(name, python_expert("talker", f"tests.kit.uneven_experts:{work}"))
            return await stack.enter_async_context(running_node(tmp_path, name, text))

        names = ["limping", "steady", "steady", "steady"]
        servers = await asyncio.gather(*(start(f"server{number}", name) for number, name in enumerate(names)))
        addresses = [(await server.status()).addresses[0] for server in servers]
        asker = await stack.enter_async_context(running_node(tmp_path, "asker", config("asker", peers=addresses)))
        await connected(asker, *servers)
        await offered(asker, len(servers))

        await ask_many(asker, 80)
        well = await ask_many(asker, REQUESTS)
        slow.touch()
        ill = await ask_many(asker, REQUESTS)
        print(f"p95 {p95(well):.0f} ms healthy, {p95(ill):.0f} ms with one of five slow; the slowest {ill[-5:]}")
        assert p95(ill) <= 2 * p95(well)
        assert ill[-1] < 1000 * SLOW_S

        _, printed, _ = await asker.command(
            "events", "tail", "--after", "1", "--no-follow", "--only", "expert.ejected", "--json"
        )
        ejected = [json.loads(line) for line in printed.splitlines()]
        assert {servers[0].peer_id} <= {event["event"]["data"]["peer"] for event in ejected}
