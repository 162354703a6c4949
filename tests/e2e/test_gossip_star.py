"""Who is connected to one node alone hears all others through it at once, and is heard by them."""

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.e2e

LEAVES = 6
# Less than the minute for which a node and one that it does not want as a neighbour keep apart.
WITHIN_S = 40


async def test_leaves_of_a_star_hear_each_other_though_they_are_nobodys_neighbours() -> None:
    command = [sys.executable, "-m", "tests.kit.gossip_star", str(LEAVES), str(WITHIN_S)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.kill()
    hub, *leaves = [json.loads(line) for line in output.decode().splitlines()]
    assert 0 < hub["neighbours"] <= 4
    assert sum(not leaf["neighbours"] for leaf in leaves) > 0
    assert [one["heard"] for one in (hub, *leaves)] == [list(range(LEAVES + 1))] * (LEAVES + 1), errors.decode()
