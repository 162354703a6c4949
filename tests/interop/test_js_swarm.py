"""Many peers that are not ours at one real node with the settings that ship, all offering, serving and asking.

`THOROUGH=1` runs 200 of them; `SWARM_PEERS=64` as many as it says. Two hundred that share two cores with other work are
late by seconds, and so is the node: it must know that of itself, and call hardly anybody dead who lives, but the one
that is killed with -9 among them.
"""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from mesh.api.client import Mesh
from mesh.api.failures import RequestFailed
from mesh.clock import unix_seconds
from mesh.demo.nodes import NodeProcess, until
from tests.kit.effort import THOROUGH
from tests.kit.javascript import copy_of, js_process, needs_node
from tests.kit.nodes import offered, python_expert, running_node, tables

PEERS = int(os.environ.get("SWARM_PEERS", "200" if THOROUGH else "0"))
SECONDS = 15
CROWD = PEERS - 1  # in one process; and one that is killed
AT_A_TIME = 16
# Of 200 on a machine with a load of 9: none, and 286 before the node looked at how late it is itself.
FEW = PEERS // 10
INSISTS_S = 150
# The detector's own 5 s, and a lateness that no machine should have.
NOTICED_WITHIN_S = 30
# All that differs from the settings that ship: who it is, and that it stays on this machine.
SETTINGS = """
[node]
name = "centre"
mesh = "test"
[overlay]
listen = ["/ip4/127.0.0.1/tcp/0"]
mdns = false
"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PEERS, reason="takes minutes: `make thorough`, or set SWARM_PEERS"),
    needs_node,
]


async def test_a_crowd_connects_offers_serves_and_is_answered(tmp_path: Path) -> None:
    """The figures are printed; how fast they are is the machine's affair."""
    directory = copy_of("js-client", tmp_path)
    shutil.copy(Path(__file__).with_name("swarm.mjs"), directory)
    text = SETTINGS + python_expert("null", "benchmarks.null_expert:answer", concurrency=256)
    async with running_node(tmp_path, "centre", text) as node:
        (address,) = (await node.status()).addresses
        arguments = ("swarm.mjs", address, "test", str(CROWD), str(SECONDS))
        async with js_process(directory, *arguments) as swarm:
            joined = await told(swarm)
            print(joined)
            assert joined["connected"] == CROWD
            await offered(node, CROWD + 1, within=120)
            async with asyncio.TaskGroup() as both:
                working = both.create_task(told(swarm))
                both.create_task(ask_everybody(node.home.root))
            worked = working.result()
            print(worked)
            assert (worked["failed"], worked["answered"] >= CROWD) == (0, True)
            accused = await called_dead(node)
            print(f"{len(accused)} of {CROWD} who live were called dead")
            assert len(accused) <= FEW
            async with js_process(directory, *arguments[:3], "1", "0") as one_more:
                peer = (await told(one_more))["last"]
                await until_offered(node, peer)
                one_more.kill()
                killed_at = time.time()
                print(f"kill -9 of one more was confirmed after {await noticed_at(node, peer) - killed_at:.1f} s")
            swarm.stdin.write_eof()
            served = await told(swarm)
            assert served["served"] >= CROWD


async def called_dead(node: NodeProcess) -> dict[str, float]:
    """When each peer was taken for dead first, as Unix time, of all that ever were."""
    only = ("--only", "peer.confirmed_down", "--after", "0", "--no-follow", "--json")
    code, output, errors = await node.command("events", "tail", *only)
    assert code == 0, errors
    events = [json.loads(line)["event"] for line in reversed(output.splitlines())]
    return {event["data"]["peer"]: unix_seconds(event["time"]) for event in events}


async def noticed_at(node: NodeProcess, peer: str) -> float:
    async with asyncio.timeout(NOTICED_WITHIN_S):
        while peer not in (found := await called_dead(node)):
            await asyncio.sleep(0.5)
    return found[peer]


async def until_offered(node: NodeProcess, peer: str) -> None:
    async with tables(node) as found:

        async def known() -> bool:
            return any(row["peer"] == peer for row in await found.experts())

        await until(known, within=60, what="one more did not offer its expert")


async def told(swarm: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next line of the swarm."""
    async with asyncio.timeout(300):
        line = await swarm.stdout.readline()
    assert line, (await swarm.stderr.read()).decode()
    return dict(json.loads(line))


async def ask_everybody(home: Path) -> None:
    """Each of the crowd answers, asked through the node like any expert."""
    room = asyncio.Semaphore(AT_A_TIME)

    async def ask(number: int) -> None:
        async with room, asyncio.timeout(INSISTS_S):
            while (text := await answer(number)) is None:
                await asyncio.sleep(1)
        assert text == f"are you {number}?"

    async def answer(number: int) -> str | None:
        """None: it was lost in the crowd, and asking again is for the test to do."""
        try:
            return (await mesh.ask(f"are you {number}?", expert=f"echo-{number}", timeout=60)).text
        except RequestFailed as failure:
            print(f"echo-{number} again: {failure.what[:80]}")
            return None

    async with Mesh.connect(home) as mesh:
        await asyncio.gather(*(ask(number) for number in range(CROWD)))
