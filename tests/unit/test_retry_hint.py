"""When to try again: said by the expert that is too busy, heard by the client of another node."""

import pytest

from mesh.experts.calls import AttemptFailed, Call, Emit
from mesh.experts.queries import QueryFailed
from mesh.gateway.problems import problem_of
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.whole_nodes import WholeNode, expert, meet

pytestmark = pytest.mark.looptime


async def busy(_call: Call, _emit: Emit) -> str:
    raise AttemptFailed("overloaded", "no room", retry_after_s=2.6)


async def test_the_hint_of_an_expert_reaches_the_client_of_another_node() -> None:
    network = MemoryNetwork(seed=1)
    one, other = WholeNode(network, 1, {}), WholeNode(network, 2, {"a": busy}, configs=[expert("a")])
    nodes = [await one.start(), await other.start()]
    try:
        await meet(*nodes)
        with pytest.raises(QueryFailed, match="no room") as failed:
            await one.requests.ask({"content": "hi", "expert": "a"})
    finally:
        for node in nodes:
            await node.stop()
    assert (failed.value.kind, failed.value.retry_after_s) == ("overloaded", 2.6)
    problem = problem_of(failed.value)
    assert (problem.status, problem.headers()["retry-after"]) == (429, "3")
