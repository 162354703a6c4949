"""Five real nodes, one of which lies: it wins nothing, is outvoted on the record, and is trusted less."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mesh.api.client import Mesh
from tests.kit.cli import mesh
from tests.kit.nodes import config, offered, python_expert, running_node, tables

pytestmark = pytest.mark.e2e
ASKED = 12


async def test_one_liar_of_four_wins_nothing_in_a_mesh_of_five(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        names = {"liar": "liar", "second": "honest", "third": "honest", "fourth": "honest"}
        nodes = await asyncio.gather(
            *(
                stack.enter_async_context(
                    running_node(
                        tmp_path, name, config(name, python_expert("sums", f"tests/kit/voters.py:{kind}", "sums"))
                    )
                )
                for name, kind in names.items()
            )
        )
        addresses = [(await node.status()).addresses[0] for node in nodes]
        asker = await stack.enter_async_context(
            running_node(tmp_path, "asker", config("asker", peers=addresses, extra=CANARY))
        )
        await offered(asker, 4)
        liar = (await nodes[0].status()).peer_id
        async with Mesh.connect(asker.home.root) as client:
            for number in range(ASKED):
                outcome = await client.ask(str(number), domain="sums", strategy="consensus", faults=1)
                assert outcome.text.strip() in (str(number + 1), f"The answer is {number + 1}.")
                assert liar not in outcome.peers
                assert outcome.count is not None
                assert (outcome.count.support, outcome.count.quorum) == (3, 3)
        why = json.loads((await mesh(asker.home.root, "why", outcome.request, "--json")).output)
        assert {decision["recomputed"] for decision in why["decisions"]} == {"identical"}
        async with tables(asker) as found:
            _, rows = await found.sql("SELECT consensus FROM requests WHERE strategy = 'consensus'")
        assert all(json.loads(row[0])["faults"] in (0, 1) for row in rows)


CANARY = """
[routing]
canary_interval_s = 0.5
[[routing.canaries]]
question = "41"
expected = "42"
domain = "sums"
"""
