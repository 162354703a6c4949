"""Many whole nodes on a bad network: delay, jitter, loss, duplicates, reordering, a partition, and peers that die.

Every pair of nodes is connected, so that the time grows with the square: fifty, with `make thorough`, take about a
minute of a core. The usual run is always the same one; a thorough one draws its seed.
"""

import asyncio
import os
import random
from collections import Counter

import pytest

from mesh.config import OverlayConfig
from mesh.errors import MeshError
from mesh.events.vocabulary.requests import RequestCompleted, RequestFailed, RequestReceived
from mesh.experts.queries import Outcome
from mesh.p2p.memory_conditions import Conditions
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.effort import THOROUGH, times
from tests.kit.peer_nodes import until
from tests.kit.whole_nodes import WholeNode, takes

# Without the cycles that looptime idles at each point of time; there are too many of these.
pytestmark = [pytest.mark.looptime(noop_cycles=2), pytest.mark.timeout(600)]

NODES = int(os.environ.get("SIM_NODES", times(50, 16)))
DIE = 1 + NODES // 10
REQUESTS = 4 * NODES
BAD = Conditions(delay_s=0.02, jitter_s=0.02, loss=0.05, duplicated=0.05, reordered=0.05)
# A beat of 10 s keeps the simulation short.
SLOW = OverlayConfig(heartbeat_s=10, redial_min_s=5, redial_max_s=30, exchange=False)


def offers_seen_by(node: WholeNode) -> dict[str, list[tuple[str, bool]]]:
    """The experts of everybody that the node believes in, without what changes by the second."""
    return {
        peer: sorted((expert, offer.available) for expert, offer in experts.items())
        for peer, experts in node.state.offers.items()
        if experts
    }


def converged(nodes: list[WholeNode]) -> bool:
    """Whether all see the same offers, of all of them and nobody else."""
    first = offers_seen_by(nodes[0])
    return set(first) == {node.id for node in nodes} and all(offers_seen_by(node) == first for node in nodes)


async def whole_mesh(network: MemoryNetwork, rng: random.Random) -> list[WholeNode]:
    works = [{f"e{number}": takes(rng, 0.3)} for number in range(NODES)]
    nodes = [
        await WholeNode(network, number + 1, works[number], interval_s=10, overlay=SLOW).start()
        for number in range(NODES)
    ]
    for node in nodes:
        node.meet(*nodes)
    await until(lambda: converged(nodes), within=120, every=0.5)
    return nodes


async def test_all_converge_after_a_heal_and_answer_everything_once_while_peers_die() -> None:
    seed = int(os.environ.get("SIM_SEED", random.SystemRandom().randrange(1 << 16) if THOROUGH else 1))
    print(f"SIM_SEED={seed}")  # shown when it fails
    rng = random.Random(seed)
    network = MemoryNetwork(seed=seed)
    network.suffer(BAD)
    nodes = await whole_mesh(network, rng)
    try:
        await a_partition_and_a_heal(network, nodes, rng)
        dead = await requests_while_peers_die(network, nodes, rng)
        alive = [node for node in nodes if node not in dead]
        await until(lambda: converged(alive), within=200, every=1)
    finally:
        for node in nodes:
            await node.stop()
    for node in alive:
        await one_outcome_each(node)


async def a_partition_and_a_heal(network: MemoryNetwork, nodes: list[WholeNode], rng: random.Random) -> None:
    """Half of them lose the other half; meanwhile some experts change; then all see the same again."""
    rng.shuffle(nodes)
    left, right = nodes[: NODES // 2], nodes[NODES // 2 :]
    pairs = [(one.id, other.id) for one in left for other in right]
    for one, other in pairs:
        network.partition(one, other, silent=rng.random() < 0.3)
    await until(lambda: converged(left) and converged(right), within=200, every=1)
    for one, other in pairs:
        network.heal(one, other)
    await until(lambda: converged(nodes), within=200, every=1)


async def requests_while_peers_die(
    network: MemoryNetwork, nodes: list[WholeNode], rng: random.Random
) -> list[WholeNode]:
    dead, asking = rng.sample(nodes, DIE), []
    askers = [node for node in nodes if node not in dead]

    async def ask(number: int) -> Outcome | MeshError:
        await asyncio.sleep(rng.uniform(0, 20))
        query = {
            "content": f"q{number}",
            "domain": "language",
            "strategy": rng.choice(["best_peer", "best_peer", "distributed", "consensus"]),
            "timeout_s": 30,
        }
        try:
            return await rng.choice(askers).requests.ask(query)
        except MeshError as error:
            return error

    asking = [asyncio.create_task(ask(number)) for number in range(REQUESTS)]
    for node in dead:
        await asyncio.sleep(rng.uniform(1, 4))
        network.kill(node.id)
    results = await asyncio.gather(*asking)
    answered = sum(isinstance(result, Outcome) for result in results)
    assert answered > 0.95 * REQUESTS, Counter(repr(result)[:90] for result in results)
    return dead


async def one_outcome_each(node: WholeNode) -> None:
    events = await node.events()
    asked = [event.correlation for event in events if isinstance(event.fact, RequestReceived)]
    ended = Counter(event.correlation for event in events if isinstance(event.fact, RequestCompleted | RequestFailed))
    assert ended == Counter(asked)
    assert node.state.attempts_in_flight() == 0
