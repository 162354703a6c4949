"""Many peers that are not ours at one real node, all offering and asking: `SWARM_PEERS=64` (or 200) to run it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.interop.test_js_client import client, run_js  # noqa: F401 - a fixture
from tests.kit.nodes import config, python_expert, running_node, tables

PEERS = int(os.environ.get("SWARM_PEERS", "0"))
SECONDS = 20

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PEERS, reason="takes minutes: set SWARM_PEERS"),
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="there is no Node.js here"),
]


async def test_a_crowd_connects_offers_and_is_answered(tmp_path: Path, client: Path) -> None:  # noqa: F811
    """The figures are printed; how fast they are is the machine's affair."""
    shutil.copy(Path(__file__).with_name("swarm.mjs"), client)
    patient = "[overlay]\nheartbeat_s = 5.0\ninbound_per_address_per_s = 1000.0\n"
    text = config("centre", python_expert("null", "benchmarks.null_expert:answer", concurrency=256))
    async with running_node(tmp_path, "centre", text.replace("[overlay]\n", patient)) as node:
        (address,) = (await node.status()).addresses
        code, output, errors = await run_js(client, "swarm.mjs", address, "test", str(PEERS), str(SECONDS))
        assert code == 0, errors
        joined, worked = map(json.loads, output.splitlines())
        print(joined, worked)
        assert joined["connected"] == PEERS
        assert worked["answered"] > PEERS
        async with tables(node) as found:
            assert len(await found.experts()) == PEERS + 1
