"""One caller can fill seven eighths of a node, and not all of it."""

import asyncio

import pytest

from mesh.config import RoutingConfig
from mesh.experts.fair_share import has_room
from mesh.experts.queries import QueryRejected
from tests.kit.asking import Asker, hangs

pytestmark = pytest.mark.looptime


def fill(callers: list[str], limit: int) -> dict[str, int]:
    held: dict[str, int] = {}
    for caller in callers:
        total = sum(held.values())
        if total < limit and has_room(held.get(caller, 0), total, len(held), limit):
            held[caller] = held.get(caller, 0) + 1
    return held


def test_a_flood_leaves_room_for_others() -> None:
    held = fill(["flood"] * 2000 + ["a"] * 60 + ["b"] * 60, 1024)
    assert held == {"flood": 896, "a": 60, "b": 60}


def test_in_a_small_node_nothing_is_kept_back() -> None:
    assert fill(["one"] * 10, 4) == {"one": 4}


def test_many_callers_fill_nearly_all_of_it() -> None:
    assert sum(fill([f"c{number % 50}" for number in range(2000)], 1024).values()) >= 1000


async def test_the_flood_is_told_and_the_other_is_served() -> None:
    node = await Asker(config=RoutingConfig(max_in_flight=16)).open()
    node.serve("own", hangs())
    query = {"content": "hi", "domain": "language", "caller": "flood"}
    flood = [asyncio.create_task(node.requests.ask(query)) for _ in range(14)]
    await asyncio.sleep(0.1)
    with pytest.raises(QueryRejected, match="14 of 14 requests in flight are this caller's"):
        await node.requests.ask(query)
    other = asyncio.create_task(node.requests.ask({**query, "caller": "other"}))
    await asyncio.sleep(0.1)
    assert not other.done()
    for task in (*flood, other):
        task.cancel()
    await asyncio.gather(*flood, other, return_exceptions=True)
    assert not node.requests._by_caller
