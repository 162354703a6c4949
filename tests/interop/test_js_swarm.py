"""Many peers that are not ours at one real node with the settings that ship, all offering, serving and asking.

`THOROUGH=1` runs 64 of them; `SWARM_PEERS=200` as many as it says. Two hundred in one process of Node.js are more than
two cores can carry that have other work too: they connect in 10 s and all that they ask is answered in the end, but
they and the overlay are then late by seconds, which heartbeats of 1 s take for death.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mesh.api.client import Mesh
from tests.kit.effort import THOROUGH
from tests.kit.javascript import copy_of, js_process, needs_node
from tests.kit.nodes import offered, python_expert, running_node

PEERS = int(os.environ.get("SWARM_PEERS", "64" if THOROUGH else "0"))
SECONDS = 15
AT_A_TIME = 16
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
        arguments = ("swarm.mjs", address, "test", str(PEERS), str(SECONDS))
        async with js_process(directory, *arguments) as swarm:
            joined = await told(swarm)
            print(joined)
            assert joined["connected"] == PEERS
            await offered(node, PEERS + 1, within=120)
            async with asyncio.TaskGroup() as both:
                working = both.create_task(told(swarm))
                both.create_task(ask_everybody(node.home.root))
            worked = working.result()
            print(worked)
            assert (worked["failed"], worked["answered"] >= PEERS) == (0, True)
            swarm.stdin.write_eof()
            served = await told(swarm)
            assert served["served"] >= PEERS


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
        async with room:
            outcome = await mesh.ask(f"are you {number}?", expert=f"echo-{number}", timeout=60)
        assert outcome.text == f"are you {number}?"

    async with Mesh.connect(home) as mesh:
        await asyncio.gather(*(ask(number) for number in range(PEERS)))
