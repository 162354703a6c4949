"""A node whose own overlay is frozen hears nobody: it accuses nobody, and finds the dead once it hears again."""

import asyncio
import random

import pytest

from mesh.p2p.hearing import Hearing
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay import OverlayDown
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.tasks import TaskOwner
from tests.kit.effort import times
from tests.kit.loop_clock import LoopClock
from tests.kit.peer_nodes import PeerNode, introduce, nodes, until

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("others", [("b",), ("b", "c", "d")])
@pytest.mark.parametrize("frozen_s", [3, 8, 14])
async def test_who_is_deaf_accuses_nobody(others, frozen_s):
    async with nodes("a", *others, latency_s=0.005) as (network, made):
        a = made["a"]
        await asyncio.sleep(20)
        network.freeze("a")
        await asyncio.sleep(frozen_s)
        network.thaw("a")
        await asyncio.sleep(10)
        assert not a.of("peer.suspected")
        assert not [fact for fact in a.of("peer.refused") if fact.rule == "idle"]
        assert a.peers.connected() == set(others)
        for other in others:  # they were right, and are told that it is back
            assert len(made[other].of("peer.rejoined", "a")) == len(made[other].of("peer.suspected", "a")) == 1


async def test_who_died_while_we_were_deaf_is_found_as_soon_as_we_hear():
    async with nodes("a", "b", "c", latency_s=0.005) as (network, made):
        await asyncio.sleep(20)
        network.freeze("a")
        await asyncio.sleep(2)
        network.freeze("b")
        await asyncio.sleep(6)
        network.thaw("a")
        await until(lambda: made["a"].of("peer.confirmed_down", "b"), 5)
        assert not made["a"].of("peer.suspected", "c")


async def test_when_all_peers_die_at_once_none_of_them_is_excused():
    async with nodes("a", "b", "c", "d", latency_s=0.005) as (network, made):
        await asyncio.sleep(20)
        died = asyncio.get_running_loop().time()
        for other in "bcd":
            network.freeze(other)
        await until(lambda: len(made["a"].of("peer.confirmed_down")) == 3, 5)
        assert asyncio.get_running_loop().time() - died < 5


async def test_an_overlay_that_is_down_hears_nothing_until_it_is_back():
    tasks, back, asked = TaskOwner(), asyncio.Event(), 0

    async def ask():
        nonlocal asked
        asked += 1
        if not back.is_set():
            raise OverlayDown("it is being restarted")
        return frozenset({"b"})

    hearing = Hearing(ask, tasks, LoopClock(), 0.5)
    assert not hearing.is_deaf(in_doubt=False)
    assert not asked
    assert not hearing.is_deaf(in_doubt=True)
    await asyncio.sleep(2)
    assert hearing.is_deaf(in_doubt=True)
    assert asked == 4
    back.set()
    await asyncio.sleep(1)
    assert not hearing.is_deaf(in_doubt=False)
    assert hearing.take_unread() == {"b"}
    assert not hearing.take_unread()
    await tasks.end()


@pytest.mark.parametrize("seed", range(times(3, 1)))
async def test_who_hears_everything_late_accuses_nobody(seed):
    """Starved, not frozen: always somebody is heard of, and everybody much later than a heartbeat allows."""
    others = [f"peer-{number}" for number in range(8)]
    rng = random.Random(seed)
    async with nodes("a", *others, latency_s=0.005) as (network, made):
        await asyncio.sleep(20)
        for _ in range(12):
            network.starve("a", rng.choice([0.5, 2.0, 4.0]))
            await asyncio.sleep(rng.uniform(1, 6))
        network.starve("a", 0)
        await asyncio.sleep(10)
        assert not made["a"].of("peer.suspected")
        assert not made["a"].of("peer.confirmed_down")
        assert made["a"].peers.connected() == set(others)


async def test_who_hears_late_finds_the_dead_as_much_later_and_in_time_once_it_is_well():
    async with nodes("a", "b", "c", "d", latency_s=0.005) as (network, made):
        loop = asyncio.get_running_loop()
        await asyncio.sleep(20)
        network.starve("a", 2.0)
        await asyncio.sleep(10)
        died = loop.time()
        network.freeze("b")
        await until(lambda: made["a"].of("peer.confirmed_down", "b"), 5 + 2 * 2.0)
        network.starve("a", 0)
        await asyncio.sleep(10)
        died = loop.time()
        network.freeze("c")
        await until(lambda: made["a"].of("peer.confirmed_down", "c"), 5)
        assert 2 < loop.time() - died < 5
        assert not made["a"].of("peer.suspected", "d")


class Behind(MemoryOverlay):
    """Does not get round to reading what these peers say."""

    unread: frozenset[str] = frozenset()

    async def check(self):
        return await super().check() | self.unread


async def test_who_has_spoken_and_was_not_listened_to_is_alive():
    network = MemoryNetwork(latency_s=0.005)
    overlay = Behind(network, "a")
    others = [PeerNode(name, MemoryOverlay(network, name), LoopClock()) for name in "bc"]
    a, *_ = everyone = [PeerNode("a", overlay, LoopClock()), *others]
    try:
        for node in everyone:
            await node.start()
        introduce(*everyone)
        await until(lambda: len(a.peers.connected()) == 2)
        await asyncio.sleep(20)
        overlay.unread = frozenset({"b"})
        for other in "bc":
            network.freeze(other)
        await until(lambda: a.of("peer.confirmed_down", "c"), 5)
        await asyncio.sleep(15)
        assert not a.of("peer.suspected", "b")
        overlay.unread = frozenset()
        await until(lambda: a.of("peer.confirmed_down", "b"), 5)
    finally:
        for node in everyone:
            await node.stop()
