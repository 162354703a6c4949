"""Too many peers at one node, over the memory overlay and in virtual time."""

import asyncio

import pytest

from mesh.config import OverlayConfig
from mesh.events.vocabulary.access import ConnectionsTrimmed
from mesh.events.vocabulary.network import PeerDisconnected, PeerRefused
from mesh.p2p.calls import InboundCall, Reply
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.trimmer import Trimmer
from mesh.p2p.trimming import Use
from tests.kit.asking import identity
from tests.kit.loop_clock import LoopClock
from tests.kit.peer_nodes import PeerNode, until

pytestmark = pytest.mark.looptime
HIGH, LOW, GRACE_S = 8, 5, 3.0


async def hang(call: InboundCall) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


class Crowd:
    """A hub with water marks, and others that all want to be connected to it."""

    def __init__(self, count: int, *, static: int = 0) -> None:
        network = MemoryNetwork(latency_s=0.005)
        names = [identity(number).peer_id for number in range(1, count + 2)]
        addresses = {name: MemoryOverlay(network, name).addresses[0] for name in names}
        config = OverlayConfig(
            high_water=HIGH,
            low_water=LOW,
            trim_grace_s=GRACE_S,
            redial_max_s=20.0,
            peers=[addresses[name] for name in names[1 : 1 + static]],
        )
        self.hub = PeerNode(names[0], MemoryOverlay(network, names[0]), LoopClock(), config)
        self.others = [PeerNode(name, MemoryOverlay(network, name), LoopClock()) for name in names[1:]]
        self.uses: dict[str, Use] = {}
        self.trimmer = Trimmer(
            self.hub.peers, self.hub.journal, config, LoopClock(), uses=lambda: (self.uses, frozenset())
        )

    async def __aenter__(self) -> "Crowd":
        for node in (*self.others, self.hub):
            node.peers.serve("hang", hang)
            await node.start()
        await self.trimmer.start()
        for node in self.others:
            node.peers.learn(self.hub.peer_id, self.hub.overlay.addresses, "mdns")
        await until(lambda: len(self.hub.of("peer.connected")) >= len(self.others), 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.trimmer.stop()
        for node in (*self.others, self.hub):
            await node.stop()

    async def decision(self) -> ConnectionsTrimmed:
        await until(lambda: self.hub.of("peer.trimmed"), 60)
        (fact,) = self.hub.of("peer.trimmed")
        assert isinstance(fact, ConnectionsTrimmed)
        return fact

    def connected(self) -> int:
        return len(self.hub.peers.connected_links())


async def test_above_the_high_water_the_least_useful_go_until_the_low_water_is_left() -> None:
    async with Crowd(12, static=1) as crowd:
        static, useful, alone, asking, *_ = (node.peer_id for node in crowd.others)
        crowd.uses = {
            useful: Use(frozenset({"coding"}), LoopClock().now()),
            alone: Use(frozenset({"vision"})),
            crowd.others[5].peer_id: Use(frozenset({"coding"})),
        }
        await until(lambda: asking in crowd.hub.peers.connected())
        call = asyncio.create_task(crowd.hub.peers.call(asking, "hang", {}, timeout=60))
        fact = await crowd.decision()
        gone = [one.peer for one in fact.trimmed]
        assert (fact.connections, fact.high_water, fact.low_water, fact.remaining) == (12, HIGH, LOW, LOW)
        assert fact.protected == {"in_flight": 1, "recent": 1, "sole_domain": 1, "static": 1}
        assert not {static, useful, alone, asking, crowd.others[5].peer_id} & set(gone)
        assert [one.score for one in fact.trimmed] == sorted(one.score for one in fact.trimmed)
        await until(lambda: crowd.connected() == LOW)
        ends = [f for f in crowd.hub.of("peer.disconnected") if isinstance(f, PeerDisconnected)]
        assert {end.peer for end in ends} == set(gone)
        assert all("over the high water of 8" in end.reason for end in ends)
        assert not call.done()
        call.cancel()


async def test_nobody_goes_within_the_grace_period() -> None:
    async with Crowd(12) as crowd:
        await asyncio.sleep(GRACE_S - 1.5)
        assert not crowd.hub.of("peer.trimmed")
        assert (await crowd.decision()).remaining == LOW


async def test_who_was_let_go_and_comes_back_at_once_is_refused_while_there_are_enough() -> None:
    async with Crowd(12) as crowd:
        gone = {one.peer for one in (await crowd.decision()).trimmed}
        await until(lambda: crowd.connected() == LOW)
        await asyncio.sleep(15)
        back = [f for f in crowd.hub.of("peer.refused") if isinstance(f, PeerRefused) and f.rule == "trimmed"]
        assert back
        assert {fact.peer for fact in back} <= gone
        assert {fact.limit.partition(" for ")[0] for fact in back} == {str(LOW)}
        assert len(crowd.hub.of("peer.trimmed")) == 1
        assert crowd.connected() <= HIGH


async def test_who_is_only_learned_of_is_not_dialled_beyond_the_low_water() -> None:
    async with Crowd(3) as crowd:
        network = crowd.hub.overlay._network  # type: ignore[attr-defined]
        more = [identity(number).peer_id for number in range(50, 60)]
        strangers = [PeerNode(name, MemoryOverlay(network, name), LoopClock()) for name in more]
        for node in strangers:
            await node.start()
            crowd.hub.peers.learn(node.peer_id, node.overlay.addresses, "mdns")
        await until(lambda: crowd.connected() == LOW)
        await asyncio.sleep(10)
        assert crowd.connected() == LOW
        for node in strangers:
            await node.stop()
        await until(lambda: crowd.connected() < LOW, 30)
