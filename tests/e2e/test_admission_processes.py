"""Two real nodes: one floods the other's only slot, and who else asks is served; the same question is asked once."""

import asyncio
import json
from pathlib import Path

import pytest

from mesh.api.client import Mesh, RequestFailed
from mesh.clock import SystemClock
from tests.kit.cli import mesh
from tests.kit.nodes import python_expert, tables, two_nodes

pytestmark = pytest.mark.e2e

SLOT = python_expert("patient", "tests.kit.slow_experts:patient", concurrency=1)
SURE = {"temperature": 0}


async def test_a_flood_a_cache_and_their_figures(tmp_path: Path) -> None:
    async with (
        two_nodes(tmp_path, SLOT) as (first, second),
        Mesh.connect(first.home.root) as flooding,
        Mesh.connect(second.home.root) as other,
    ):
        clock = SystemClock()
        began = clock.monotonic()
        asked = [asyncio.create_task(flooding.ask(f"200 {n}", domain="language", timeout=60)) for n in range(50)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        for number in range(4):
            answer = await other.ask(f"200 other {number}", domain="language", timeout=30)
            assert answer.latency_ms < 4000
        assert len([task for task in asked if not task.done()]) > 20, "the flood is still waiting"
        await asyncio.wait(asked[:10])
        with pytest.raises(RequestFailed, match="the wait is about") as late:
            await flooding.ask("200 late", domain="language", timeout=2)
        assert late.value.kind == "overloaded"
        await asyncio.gather(*asked)
        assert clock.monotonic() - began > 10

        once, *again = await asyncio.gather(
            *(flooding.ask("200 same", domain="language", options=SURE) for _ in range(5))
        )
        later = await flooding.ask("200 same", domain="language", options=SURE)
        assert {one.text for one in (once, *again, later)} == {"same"}
        originals = {one.request for one in (once, *again) if not one.cached_from}
        assert len(originals) == 1
        assert {later.cached_from} == originals

        shown = await mesh(first.home.root, "why", later.request)
        assert f"found for another request: mesh why {later.cached_from}" in " ".join(shown.output.split())
        async with tables(first) as projected:
            await projected.wait_for((await first.status()).stored_position, timeout=60)
        ran = await mesh(first.home.root, "stats", "--json")
        stats = json.loads(ran.output)
        total, (domain,) = stats["total"], stats["domains"]
        assert (total["completed"], total["failed"], total["cache_hits"]) == (56, 1, 5)
        assert (domain["domain"], domain["experts"], domain["peers"]) == ("language", 1, 1)
        assert total["p50_ms"] <= total["p95_ms"] <= total["p99_ms"]
        async with tables(second) as projected:
            (own,) = await projected.experts()
        assert isinstance(own["in_flight"], int)
        assert (own["queued"] is not None, own["quality"]) == (True, 0.5)
