"""Nodes that come to know each other through others, or from their own past: whole nodes over the memory overlay."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesh.config import OverlayConfig
from mesh.events.vocabulary.network import PeerDialFailed, PeerDiscovered
from mesh.p2p.introductions import HINT_PATIENCE, MAX_UNTRIED
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.asking import identity, says
from tests.kit.peer_nodes import until
from tests.kit.whole_nodes import WholeNode

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def line(count: int, **settings: object) -> AsyncIterator[tuple[MemoryNetwork, list[WholeNode]]]:
    """Nodes of which each knows the next; the last serves something."""
    network = MemoryNetwork(latency_s=0.01)
    overlay = OverlayConfig(**settings)
    made = [WholeNode(network, n, {"e": says("x")} if n == count else {}, overlay=overlay) for n in range(1, count + 1)]
    for node in made:
        await node.start()
    try:
        for near, far in itertools.pairwise(made):
            near.meet(far)
            await until(lambda near=near, far=far: far.id in near.peers.connected(), within=30)
        yield network, made
    finally:
        for node in made:
            await node.stop()


async def discovered(node: WholeNode, source: str) -> dict[str, str]:
    """Who was found by ``source``, and who told of it."""
    found = [event.fact for event in await node.events() if isinstance(event.fact, PeerDiscovered)]
    return {fact.peer: fact.by for fact in found if fact.source == source}


async def test_those_who_know_one_get_to_know_all_by_whom_they_know() -> None:
    async with line(5) as (_, made):
        await until(lambda: all(len(node.peers.connected()) == 4 for node in made), within=60)
        await until(lambda: made[0].knows(made[-1]) == {"e"}, within=60)
        told = await discovered(made[-1], "exchange")
        assert told
        assert all(by in {node.id for node in made} - {peer} for peer, by in told.items())


async def test_with_exchange_off_nobody_tells_and_nobody_listens() -> None:
    async with line(3, exchange=False) as (_, made):
        await asyncio.sleep(120)
        assert [len(node.peers.connected()) for node in made] == [1, 2, 1]
        assert made[1].introducer.tell(made[0].id) == {}


async def test_with_enough_peers_nobody_listens() -> None:
    async with line(3, exchange_until=1) as (_, made):
        await asyncio.sleep(120)
        assert [len(node.peers.connected()) for node in made] == [1, 2, 1]


async def test_a_liar_gets_few_dials_none_twice_and_changes_nothing_that_is_known() -> None:
    async with line(2) as (_, (one, liar)):
        strangers = {identity(100 + n).peer_id: (f"/memory/nowhere{n}",) for n in range(200)}
        known = one.peers.known()[liar.id]
        for _ in range(3):
            one.introducer.hear(liar.id, {**strangers, liar.id: ("/memory/elsewhere",), one.id: ("/memory/x",)})
            await asyncio.sleep(30)
        assert one.peers.known()[liar.id] == known
        failed = [event.fact.peer for event in await one.events() if isinstance(event.fact, PeerDialFailed)]
        assert 32 <= len(set(failed)) <= 36 < MAX_UNTRIED
        assert all(failed.count(peer) == HINT_PATIENCE for peer in set(failed))
        assert set(one.peers.known()) == {liar.id}
        assert all(by == liar.id for by in (await discovered(one, "exchange")).values())


async def test_a_node_that_comes_back_dials_whom_it_knew() -> None:
    async with line(3, exchange=False) as (network, made):
        await until(lambda: all(node.peers.connected() for node in made))
        middle = made[1]
        await middle.offers.stop()
        await middle.introducer.stop()
        await middle.peers.stop()
        await until(lambda: not made[0].peers.connected())
        again = WholeNode(network, 2, {}, overlay=OverlayConfig(exchange=False))
        for peer, known in middle.book.peers.items():
            again.book.peers[peer] = known
        for other in (made[0], made[2]):
            other.peers.forget(middle.id)  # they wait to be dialled
        await again.start()
        await until(lambda: again.peers.connected() == {made[0].id, made[2].id}, within=10)
        assert set(await discovered(again, "store")) == {made[0].id, made[2].id}
        await again.stop()


async def test_bootstrap_peers_are_dialled_while_nobody_else_is_there() -> None:
    async with line(2) as (network, made):
        bootstrap = [address for node in made for address in node.overlay.addresses]
        newcomer = await WholeNode(network, 9, {}, overlay=OverlayConfig(bootstrap=bootstrap[:1])).start()
        await until(lambda: len(newcomer.peers.connected()) == 2, within=10)
        assert set(await discovered(newcomer, "bootstrap")) == {made[0].id}
        await newcomer.stop()
