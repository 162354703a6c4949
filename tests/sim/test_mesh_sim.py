"""Several whole nodes that ask each other while links break, overlays restart and nodes die, in virtual time."""

import asyncio
import random
from collections import Counter

import pytest

from mesh.events.envelope import Event
from mesh.events.vocabulary.requests import RequestDispatched, RequestRouted, RequestServed
from mesh.experts.explain import IDENTICAL, compare
from mesh.experts.queries import Outcome
from mesh.experts.state import RoutingState, fold
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.asking import hangs, says, streams
from tests.kit.peer_nodes import until
from tests.kit.whole_nodes import WholeNode, expert, meet, takes

pytestmark = pytest.mark.looptime

NODES = 5
REQUESTS = 60


def check(node: WholeNode, events: list[Event]) -> None:
    """The laws, on one node's journal."""
    state = RoutingState(node.id)
    ends: dict[str, Counter[str]] = {}
    for event in events:
        fact, kind = event.fact, event.type.removeprefix("request.")
        if isinstance(fact, RequestRouted):
            assert compare(state, fact) == IDENTICAL
        elif isinstance(fact, RequestDispatched) and fact.peer != node.id:
            assert state.peers[fact.peer].connected
            assert state.peers[fact.peer].liveness != "down"
        elif kind == "received":
            ends[event.correlation] = Counter()
        elif kind in ("completed", "failed", "cancelled"):
            ends[event.correlation][kind] += 1
        state.apply(event)
    assert {tuple(counts.values()) for counts in ends.values()} <= {(1,)}
    assert state.digest() == node.state.digest() == fold(node.id, events).digest()
    assert node.state.attempts_in_flight() == len(node.state.requests) == 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_mesh_in_trouble_keeps_its_laws(seed: int) -> None:
    rng = random.Random(seed)
    network = MemoryNetwork(latency_s=0.002)
    works = [{"a": takes(rng, rng.choice([0.05, 0.5, 2.0]))} for _ in range(NODES)]
    nodes = [await WholeNode(network, number + 1, works[number], interval_s=5).start() for number in range(NODES)]
    try:
        await meet(*nodes)

        async def trouble() -> None:
            while True:
                await asyncio.sleep(rng.expovariate(0.3))
                one, other = rng.sample(nodes, 2)
                if rng.random() < 0.3:
                    network.restart(one.id)
                    continue
                network.partition(one.id, other.id, silent=rng.random() < 0.5)
                await asyncio.sleep(rng.uniform(1, 15))
                network.heal(one.id, other.id)

        async def ask(number: int) -> object:
            await asyncio.sleep(rng.uniform(0, 60))
            query = {
                "content": f"q{number}",
                "domain": "language",
                "strategy": rng.choice(["best_peer", "best_peer", "distributed", "consensus"]),
                "timeout_s": 20,
            }
            return (await asyncio.gather(rng.choice(nodes).requests.ask(query), return_exceptions=True))[0]

        troubled = asyncio.create_task(trouble())
        results = await asyncio.gather(*(ask(number) for number in range(REQUESTS * NODES)))
        troubled.cancel()
        await asyncio.gather(troubled, return_exceptions=True)
        answered = sum(isinstance(result, Outcome) for result in results)
        assert answered > 0.9 * len(results), Counter(repr(result)[:90] for result in results)
        for one in nodes:
            for other in nodes:
                network.heal(one.id, other.id)
        await until(lambda: all(len(node.peers.connected()) == NODES - 1 for node in nodes), within=300)
        await until(lambda: all(node.knows(other) for node in nodes for other in nodes), within=60)
        for node in nodes:
            await until(lambda node=node: node.experts.in_flight == 0, within=60)
    finally:
        for node in nodes:
            await node.stop()
    for node in nodes:
        check(node, await node.events())


async def test_a_node_killed_mid_request_is_answered_for_by_another() -> None:
    network = MemoryNetwork(latency_s=0.002)
    one = await WholeNode(network, 1, {}).start()
    dying = await WholeNode(network, 2, {"a": hangs()}).start()
    other = WholeNode(network, 3, {"a": says("saved")}, configs=[expert("a", concurrency=1, queue=0)])
    await other.start()
    try:
        await meet(one, dying, other)
        one.state.offers[other.id]["a"].quality = 0.0
        asking = asyncio.create_task(one.requests.ask({"content": "hi", "domain": "language", "policy": "weighted"}))
        await until(lambda: dying.experts.in_flight == 1)
        started = one.clock.monotonic()
        network.kill(dying.id)
        outcome = await asking
        assert (outcome.text, outcome.attempts, outcome.peers) == ("saved", 2, (other.id,))
        assert one.clock.monotonic() - started < 1
        served = [event.fact for event in await other.events() if isinstance(event.fact, RequestServed)]
        assert [fact.outcome for fact in served] == ["answered"]
    finally:
        for node in (one, dying, other):
            await node.stop()


async def test_a_node_that_falls_silent_is_noticed_and_its_request_moves_on() -> None:
    """No connection breaks: only the failure detector can tell."""
    network = MemoryNetwork(latency_s=0.002)
    one = await WholeNode(network, 1, {}).start()
    frozen = await WholeNode(network, 2, {"a": hangs()}).start()
    other = await WholeNode(network, 3, {"a": says("saved")}).start()
    try:
        await meet(one, frozen, other)
        await asyncio.sleep(30)  # the detector learns what is usual
        one.state.offers[other.id]["a"].quality = 0.0
        asking = asyncio.create_task(
            one.requests.ask({"content": "hi", "domain": "language", "policy": "weighted", "timeout_s": 60})
        )
        await until(lambda: frozen.experts.in_flight == 1)
        started = one.clock.monotonic()
        network.partition(one.id, frozen.id, silent=True)
        outcome = await asking
        assert outcome.text == "saved"
        assert one.clock.monotonic() - started < 30
    finally:
        for node in (one, frozen, other):
            await node.stop()


async def test_four_nodes_agree_against_one_that_lies() -> None:
    network = MemoryNetwork(latency_s=0.002)
    texts = ["42", "42.0", "41", " 42 "]
    asker = await WholeNode(network, 9, {}).start()
    voters = [await WholeNode(network, n + 1, {"calc": says(text, 0.1)}).start() for n, text in enumerate(texts)]
    try:
        await meet(asker, *voters)
        query = {"content": "6*7", "domain": "language", "strategy": "consensus", "fan_out": 4}
        outcome = await asker.requests.ask(query)
        assert float(outcome.text) == 42
        assert len(outcome.peers) >= 3
        assert voters[2].id not in outcome.peers
    finally:
        for node in (asker, *voters):
            await node.stop()


async def test_streamed_text_crosses_the_mesh_piece_by_piece() -> None:
    network = MemoryNetwork(latency_s=0.05)
    one = await WholeNode(network, 1, {}).start()
    other = await WholeNode(network, 2, {"poet": streams("roses ", "are ", "red", every_s=1.0)}).start()
    try:
        await meet(one, other)
        seen: list[tuple[int, str]] = []
        started = one.clock.monotonic()

        async def emit(piece: str) -> None:
            seen.append((int(one.clock.monotonic() - started), piece))

        await one.requests.ask({"content": "a poem", "domain": "language"}, emit)
        assert seen == [(1, "roses "), (2, "are "), (3, "red")]
    finally:
        for node in (one, other):
            await node.stop()
