"""Journals that share: several nodes over the memory overlay, in virtual time."""

import asyncio
import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from mesh.events.vocabulary.experts import ExpertOffered
from mesh.events.vocabulary.health import NodeSampled
from mesh.events.vocabulary.journal import JournalSealed
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay_memory import MemoryOverlay
from tests.kit.bridges import BridgeNode, alert, bridged
from tests.kit.peer_nodes import until as until_often
from tests.kit.vocabulary import sample

pytestmark = pytest.mark.looptime


async def until(condition: Callable[[], object], within: float) -> None:
    await until_often(condition, within, every=0.5)


async def test_what_happens_on_one_node_is_in_the_journals_of_the_others() -> None:
    async with bridged(3) as (_, (one, two, three)):
        one.emit(alert(1), alert(2))
        await until(lambda: two.holds(one) and three.holds(one), 30)
        assert [event.type for event in two.events() if event.origin == one.id][:3] == [
            "node.started",
            "alert.raised",
            "alert.raised",
        ]
        await until(lambda: all(a is b or a.holds(b) for a in (one, two, three) for b in (one, two, three)), 30)


async def test_a_node_that_was_away_catches_up_from_who_has_it_though_its_origin_is_gone() -> None:
    async with bridged(2) as (network, (one, carrier)):
        away = await BridgeNode(network, 3).start()
        away.meet(one, carrier)
        await until(lambda: away.holds(one) and away.holds(carrier), 60)
        await away.stop()
        for number in range(200):
            one.emit(alert(number))
            await asyncio.sleep(18)  # an hour
        await until(lambda: carrier.holds(one), 60)
        network.kill(one.id)
        back = await BridgeNode(network, 3, records=away.store.records).start()
        try:
            back.meet(carrier)
            await until(lambda: back.holds(one), 60)
            assert (
                back.holds(carrier) or back.payloads(carrier.id) == carrier.shared()[: len(back.payloads(carrier.id))]
            )
            carriers = {
                event.fact.carrier for event in back.of("journal.received") if event.fact.batch.origin == one.id
            }
            assert carriers == {one.id, carrier.id}
            assert len({event.id for event in back.events()}) == len(back.events())
        finally:
            await back.stop()


@pytest.mark.parametrize("seed", [1, 2])
async def test_everybody_has_everything_in_order_whatever_breaks_meanwhile(seed: int) -> None:
    rng = random.Random(seed)
    async with bridged(4) as (network, nodes):
        for number in range(80):
            rng.choice(nodes).emit(alert(number))
            await asyncio.sleep(rng.expovariate(0.3))
            one, other = rng.sample(nodes, 2)
            if rng.random() < 0.2:
                network.partition(one.id, other.id, silent=rng.random() < 0.3)
            elif rng.random() < 0.1:
                network.restart(one.id)
            if rng.random() < 0.2:
                network.heal(one.id, other.id)
        for one in nodes:
            for other in nodes:
                network.heal(one.id, other.id)
        await until(lambda: all(a is b or a.holds(b) for a in nodes for b in nodes), 900)
        for node in nodes:
            assert not [
                event for event in node.events() if event.type in ("peer.misbehaved", "journal.equivocation_found")
            ]


async def test_a_node_killed_in_the_middle_of_a_batch_takes_the_rest_of_it() -> None:
    async with bridged(2) as (network, (one, other)):
        one.emit(*(alert(number) for number in range(20)))
        await until(lambda: other.holds(one), 60)
        received = next(event for event in other.of("journal.received") if event.fact.batch.last >= 20)
        cut = other.store.records[: received.position + 7]
        network.kill(other.id)
        back = await BridgeNode(network, 2, records=cut).start()
        try:
            back.meet(one)
            await until(lambda: back.holds(one), 60)
            third = await BridgeNode(network, 3).start()
            network.kill(one.id)
            third.meet(back)
            await until(lambda: third.payloads(one.id) == back.payloads(one.id), 60)
            await third.stop()
        finally:
            await back.stop()


async def test_a_node_whose_journal_was_restored_begins_a_new_feed_and_is_not_taken_for_a_liar() -> None:
    async with bridged(2) as (network, (one, other)):
        one.emit(alert(1))
        await until(lambda: other.holds(one), 60)
        backup = list(one.store.records)
        one.emit(alert(2))
        await until(lambda: other.holds(one), 60)
        network.kill(one.id)
        await asyncio.sleep(60)
        restored = await BridgeNode(network, 1, records=backup).start()
        try:
            restored.meet(other)
            await asyncio.sleep(20)
            restored.emit(alert(3))
            await until(lambda: other.payloads(one.id)[-1:] == restored.shared()[-1:], 60)
            assert not other.of("journal.equivocation_found")
        finally:
            await restored.stop()


async def test_feeds_go_sealed_where_the_mesh_asks_for_it() -> None:
    network = MemoryNetwork()
    one, other = [await BridgeNode(network, number, seal=True).start() for number in (1, 2)]
    try:
        other.meet(one)
        one.emit(*(alert(number) for number in range(200)))
        await until(lambda: other.holds(one), 60)
        assert not other.of("peer.misbehaved")
    finally:
        await other.stop()
        await one.stop()


NODES, IDLE_S, LIMIT_MB_PER_H = 10, 240.0, 6.0


async def test_a_mesh_of_ten_that_has_nothing_to_do_says_little_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, with three copies of each message of gossip and what libp2p puts around one."""
    gossiped = [0]
    gossip = MemoryNetwork.gossip

    def counting(network: MemoryNetwork, publisher: MemoryOverlay, topic: str, data: bytes) -> None:
        gossiped[0] += 3 * (len(data) + 250)
        gossip(network, publisher, topic, data)

    async with bridged(NODES) as (_, nodes):
        await asyncio.sleep(20)
        monkeypatch.setattr(MemoryNetwork, "gossip", counting)
        streams = [node.bridge._streams for node in nodes]
        before = sum(each.bytes_in + each.bytes_out for each in streams)
        for _ in range(int(IDLE_S / 30)):
            for node in nodes:
                node.emit(sample(NodeSampled), replace(sample(ExpertOffered), peer=node.id), sample(JournalSealed))
            await asyncio.sleep(30)
        visits = (sum(each.bytes_in + each.bytes_out for each in streams) - before) / NODES
        assert all(a is b or len(a.payloads(b.id)) > IDLE_S / 60 for a in nodes for b in nodes)
        said = (visits + 2 * gossiped[0]) / IDLE_S * 3600 / 1e6
        assert said < LIMIT_MB_PER_H, (visits, gossiped)
