"""Several nodes over the memory overlay, in virtual time: joining, dying, freezing, healing, misbehaving."""

import asyncio
import itertools
import random
from collections.abc import Sequence

import pytest

from mesh.config import OverlayConfig
from mesh.errors import ConfigError, PeerMisbehaved
from mesh.events.vocabulary.network import PeerConfirmedDown, PeerDialFailed, PeerRejoined, PeerSuspected
from mesh.identity import Identity
from mesh.p2p import messages
from mesh.p2p.calls import CallFailed, InboundCall, Reply
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.messages import PROTOCOL
from mesh.p2p.overlay import DialFailed, OverlayDown, OverlayFact, Stream
from mesh.p2p.overlay_memory import MemoryOverlay
from tests.kit.loop_clock import LoopClock
from tests.kit.peer_nodes import PeerNode, introduce, nodes, until
from tests.kit.wire_pair import hello

pytestmark = pytest.mark.looptime

NAMES = ("a", "b", "c", "d", "e")


def now():
    return asyncio.get_running_loop().time()


async def hang(call: InboundCall) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


async def test_five_nodes_find_each_other_and_everyone_can_call_everyone():
    async with nodes(*NAMES, latency_s=0.01) as (_, made):
        for node in made.values():
            assert node.peers.connected() == set(NAMES) - {node.peer_id}
            for other in node.peers.connected():
                reply = await node.peers.call(other, "echo", {"from": node.peer_id}, b"hello", timeout=2)
                assert reply == Reply({"from": node.peer_id}, b"hello")
                assert node.peers.name_of(other) == f"node {other}"
        for node in made.values():
            for other in set(NAMES) - {node.peer_id}:
                kinds = [fact.type for fact in node.facts if getattr(fact, "peer", "") == other]
                assert kinds == ["peer.discovered", "peer.connected", "peer.identified", "peer.greeted"]


async def test_two_who_learn_of_each_other_at_once_dial_once():
    async with nodes("a", "b", latency_s=0.01) as (network, _):
        assert network._made == 1


async def test_a_killed_peer_fails_calls_at_once_is_found_dead_and_comes_back():
    async with nodes("a", "b", "c", latency_s=0.005) as (network, made):
        a = made["a"]
        made["b"].peers.serve("hang", hang)
        await asyncio.sleep(12)
        call = asyncio.create_task(a.peers.call("b", "hang", {}, timeout=60))
        await asyncio.sleep(0.5)
        killed = now()
        network.kill("b")
        with pytest.raises(CallFailed) as caught:
            await call
        assert (caught.value.kind, caught.value.retryable) == ("disconnected", True)
        assert now() - killed < 0.1
        assert a.peers.connected() == {"c"}
        await until(lambda: a.of("peer.confirmed_down"), 60)
        assert now() - killed <= 5
        assert a.kinds().index("peer.disconnected") < a.kinds().index("peer.suspected")
        assert [f.lasted_s for f in a.of("peer.disconnected")] == [pytest.approx(12.5, abs=0.2)]
        await until(lambda: len(a.of("peer.dial_failed")) >= 5, 120)
        retries = [f.retry_in_s for f in a.of("peer.dial_failed") if isinstance(f, PeerDialFailed)]
        assert retries == sorted(retries)
        reborn = PeerNode("b", MemoryOverlay(network, "b"), LoopClock())
        await reborn.start()
        reborn.peers.learn("a", a.overlay.addresses, "store")
        await until(lambda: a.of("peer.rejoined"), 120)
        assert (await a.peers.call("b", "echo", {}, b"again", timeout=1)).body == b"again"
        assert len(a.of("peer.confirmed_down")) == len(a.of("peer.suspected")) == 1
        await reborn.stop()


async def test_a_frozen_peer_is_suspected_confirmed_and_its_calls_fail_over():
    """Nothing is reset and nothing is refused: only silence tells."""
    async with nodes("a", "b", "c", latency_s=0.005) as (network, made):
        a = made["a"]
        made["b"].peers.serve("hang", hang)
        await asyncio.sleep(20)
        call = asyncio.create_task(a.peers.call("b", "hang", {}, timeout=60))
        await asyncio.sleep(1)
        frozen = now()
        for other in ("a", "c"):
            network.partition("b", other, silent=True)
        with pytest.raises(CallFailed) as caught:
            await call
        assert caught.value.kind == "disconnected"
        assert 2 <= now() - frozen <= 5
        facts = [f for f in a.facts if isinstance(f, PeerSuspected | PeerConfirmedDown)]
        assert [f.type for f in facts] == ["peer.suspected", "peer.confirmed_down"]
        assert facts[0].phi >= 3
        assert a.peers.connected() == {"c"}
        assert not made["c"].of("peer.suspected", "a")
        for other in ("a", "c"):
            network.heal("b", other)
        await until(lambda: "b" in a.peers.connected(), 120)
        await until(lambda: a.of("peer.rejoined", "b"))
        assert a.peers.stats("b") is not None


async def test_a_partition_heals_and_everybody_converges():
    async with nodes(*NAMES, latency_s=0.005) as (network, made):
        left, right = NAMES[:2], NAMES[2:]
        for one in left:
            for other in right:
                network.partition(one, other)
        await asyncio.sleep(30)
        for name in NAMES:
            side = left if name in left else right
            assert made[name].peers.connected() == set(side) - {name}
        for one in left:
            for other in right:
                network.heal(one, other)
        await until(lambda: all(len(node.peers.connected()) == 4 for node in made.values()), 120)
        await asyncio.sleep(5)
        for node in made.values():
            away = right if node.peer_id in left else left
            assert sorted(f.peer for f in node.of("peer.rejoined") if isinstance(f, PeerRejoined)) == sorted(away)
            assert not [task for task in node.peers._tasks._tasks if task.done()]


async def test_a_node_that_was_paused_itself_accuses_nobody():
    class Pausable(LoopClock):
        """The node's view of time when its process is stopped: the loop stands still, and then much later goes on."""

        def __init__(self):
            self.skipped = 0.0

        def monotonic(self):
            return super().monotonic() + self.skipped

    network, clock = MemoryNetwork(latency_s=0.005), Pausable()
    paused = PeerNode("a", MemoryOverlay(network, "a"), clock)
    other = PeerNode("b", MemoryOverlay(network, "b"), LoopClock())
    await paused.start()
    await other.start()
    introduce(paused, other)
    await until(lambda: paused.peers.connected() and other.peers.connected())
    await asyncio.sleep(15)
    clock.skipped += 45.0
    await asyncio.sleep(15)
    assert not paused.of("peer.suspected")
    assert paused.peers.connected() == {"b"}
    network.kill("b")
    await until(lambda: paused.of("peer.confirmed_down"), 6)
    await paused.stop()
    await other.stop()


async def test_when_only_the_overlay_restarts_everybody_is_back_at_once():
    async with nodes("a", "b", "c") as (network, made):
        a = made["a"]
        await asyncio.sleep(15)
        network.restart("a", "killed by SIGKILL")
        assert a.peers.connected() == frozenset()
        started = now()
        await until(lambda: a.peers.connected() == {"b", "c"})
        assert now() - started < 0.5
        (restart,) = a.of("node.process_restarted")
        assert (restart.process, restart.reason) == ("overlay", "killed by SIGKILL")
        assert len(a.of("peer.disconnected")) == 2


async def test_a_peer_that_breaks_the_protocol_is_dropped_recorded_and_others_are_served():
    async with nodes("a", "b") as (network, made):
        a = made["a"]
        evil = MemoryOverlay(network, "evil")
        mute = Mute()
        await evil.start(mute, protocols=[PROTOCOL], topics=[])
        await evil.dial("a", a.overlay.addresses, 1)
        stream = await evil.open_stream("a", PROTOCOL, 1)
        stream.writer.write(b"\xff" * 100)
        await until(lambda: a.of("peer.misbehaved", "evil"))
        await until(lambda: a.of("peer.disconnected", "evil"))
        (fact,) = a.of("peer.misbehaved")
        assert fact.rule == "frame_too_large"
        assert (await made["b"].peers.call("a", "echo", {}, b"x", timeout=1)).body == b"x"
        assert "evil" not in a.peers._links
        await evil.stop()
        await mute.hang_up(stream)


async def test_who_broke_the_protocol_is_kept_out_for_a_while_and_longer_the_next_time():
    async with nodes("a") as (network, made):
        a = made["a"]
        evil, mute = MemoryOverlay(network, "evil"), Mute()
        await evil.start(mute, protocols=[PROTOCOL], topics=[])
        for offences, pause_s in enumerate((60, 120)):
            await evil.dial("a", a.overlay.addresses, 1)
            stream = await evil.open_stream("a", PROTOCOL, 1)
            stream.writer.write(b"\xff" * 100)
            await until(lambda offences=offences: len(a.of("peer.disconnected", "evil")) > offences)
            await asyncio.sleep(pause_s - 1)
            with pytest.raises(DialFailed, match="hung up"):
                await evil.dial("a", a.overlay.addresses, 1)
            assert a.of("peer.refused", "evil")[-1].rule == "cut_off"
            with pytest.raises(DialFailed, match="cut off"):
                await a.overlay.dial("evil", evil.addresses, 1)
            await mute.hang_up(stream)
            await asyncio.sleep(1)
        await evil.dial("a", a.overlay.addresses, 1)
        assert len(a.of("peer.connected", "evil")) == 3
        await evil.stop()


async def test_a_hundred_bad_peers_leave_nothing_behind():
    async with nodes("a", "b") as (network, made):
        a = made["a"]
        tasks = len(asyncio.all_tasks())
        for n in range(100):
            mute, evil = Mute(), MemoryOverlay(network, f"evil{n}")
            await evil.start(mute, protocols=[PROTOCOL], topics=[])
            await evil.dial("a", a.overlay.addresses, 1)
            streams = [await evil.open_stream("a", PROTOCOL, 1) for _ in range(5)]
            for stream in streams:
                stream.writer.write(messages.hello(hello()) if n % 3 else b"")
                stream.writer.write(bytes(n * 11))
            await asyncio.sleep(0.1)
            await evil.stop()
            await mute.hang_up(*streams)
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == tasks
        assert set(a.peers._links) == {"b"}
        assert not a.peers._links.membership.members.keys() - {"b"}
        assert (await made["b"].peers.call("a", "echo", {}, b"x", timeout=1)).body == b"x"
        assert len(a.of("peer.misbehaved")) > 50


async def test_a_peer_of_another_mesh_is_refused_and_left_alone():
    network = MemoryNetwork()
    ours = PeerNode("a", MemoryOverlay(network, "a"), LoopClock(), mesh="one")
    theirs = PeerNode("b", MemoryOverlay(network, "b"), LoopClock(), mesh="two")
    await ours.start()
    await theirs.start()
    introduce(ours, theirs)
    await asyncio.sleep(30)
    assert ours.peers.connected() == theirs.peers.connected() == frozenset()
    refusals = ours.of("peer.refused") + theirs.of("peer.refused")
    assert {(f.rule, f.limit, f.value) for f in refusals} <= {("mesh", "one", "two"), ("mesh", "two", "one")}
    assert 1 <= len(refusals) <= 4
    assert not ours.of("peer.suspected")
    await ours.stop()
    await theirs.stop()


async def test_a_stream_on_which_the_peer_never_says_hello_is_given_up():
    async with nodes("a", "b") as (network, made):
        a, mute = made["a"], Mute()
        slow = MemoryOverlay(network, "slow")
        await slow.start(mute, protocols=[PROTOCOL], topics=[])
        await slow.dial("a", a.overlay.addresses, 1)
        stream = await slow.open_stream("a", PROTOCOL, 1)
        stream.writer.write(b"\0\0")
        await until(lambda: a.of("peer.disconnected", "slow"), 30)
        assert {f.rule for f in a.of("peer.refused", "slow")} == {"handshake"}
        assert a.peers.connected() == {"b"}
        await slow.stop()
        await mute.hang_up(stream)


async def test_a_stream_on_which_the_peer_falls_silent_is_given_up_and_the_others_go_on():
    async with nodes("a", "b") as (network, made):
        a, mute = made["a"], Mute()
        quiet = MemoryOverlay(network, "quiet")
        await quiet.start(mute, protocols=[PROTOCOL], topics=[])
        await quiet.dial("a", a.overlay.addresses, 1)
        stream = await quiet.open_stream("a", PROTOCOL, 1)
        stream.writer.write(messages.hello(hello()))
        await until(lambda: any(f.rule == "idle" for f in a.of("peer.refused", "quiet")), 30)
        assert await stream.reader.read() is not None
        assert a.peers._links["quiet"].answering is None
        assert (await made["b"].peers.call("a", "echo", {}, b"x", timeout=1)).body == b"x"
        await quiet.stop()
        await mute.hang_up(stream)


async def test_a_second_stream_of_a_peer_takes_the_place_of_the_first():
    async with nodes("a", "b") as (network, made):
        a, mute = made["a"], Mute()
        greedy = MemoryOverlay(network, "greedy")
        await greedy.start(mute, protocols=[PROTOCOL], topics=[])
        await greedy.dial("a", a.overlay.addresses, 1)
        streams = [await greedy.open_stream("a", PROTOCOL, 1) for _ in range(3)]
        for stream in streams:
            stream.writer.write(messages.hello(hello()))
        for stream in streams[:2]:
            await asyncio.wait_for(stream.reader.read(), 1)  # to its end
        assert a.peers._links["greedy"].answering.hello is not None
        await greedy.stop()
        await mute.hang_up(*streams)


async def test_while_the_overlay_is_down_nothing_is_held_against_the_peers():
    class Down(MemoryOverlay):
        """Answers nothing but OverlayDown for a while, as during a restart."""

        down = True

        async def dial(self, peer: str, addresses: Sequence[str], timeout: float) -> None:
            if self.down:
                raise OverlayDown("restarting")
            await super().dial(peer, addresses, timeout)

        async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream:
            if self.down:
                raise OverlayDown("restarting")
            return await super().open_stream(peer, protocol, timeout)

    network = MemoryNetwork()
    overlay = Down(network, "a")
    node, other = PeerNode("a", overlay, LoopClock()), PeerNode("b", MemoryOverlay(network, "b"), LoopClock())
    await node.start()
    await other.start()
    node.peers.learn("b", other.overlay.addresses, "mdns")
    await asyncio.sleep(10)
    assert node.kinds() == ["peer.discovered"]
    overlay.down = False
    await until(lambda: node.peers.connected() == {"b"}, 2)
    assert not node.of("peer.dial_failed")
    await node.stop()
    await other.stop()


async def test_gossip_reaches_registered_topics_of_the_same_mesh_and_faults_are_the_peers():
    network = MemoryNetwork()
    heard = []
    made = {name: PeerNode(name, MemoryOverlay(network, name), LoopClock()) for name in ("a", "b")}

    def picky(peer: str, data: bytes) -> None:
        if data == b"bad":
            raise PeerMisbehaved("offer", "no such thing")
        heard.append((peer, data))

    for node in made.values():
        node.peers.register("offers", picky)
        await node.start()
    introduce(*made.values())
    await until(lambda: all(node.peers.connected() for node in made.values()))
    await made["a"].peers.gossip("offers", b"good")
    await until(lambda: heard)
    assert heard == [("a", b"good")]
    assert made["a"].overlay.topics == ("/mesh/lab/offers/1.0.0",)
    await made["a"].peers.gossip("offers", b"bad")
    await until(lambda: made["b"].of("peer.misbehaved", "a"))
    with pytest.raises(ValueError, match="limit"):
        await made["a"].peers.gossip("offers", bytes(40_000))
    for node in made.values():
        await node.stop()


async def test_heartbeats_measure_the_link():
    async with nodes("a", "b", latency_s=0.02) as (_, made):
        peers = made["a"].peers
        peers.stats("b")
        await asyncio.sleep(60)
        await peers.call("b", "echo", {}, random.Random(1).randbytes(5000), timeout=5)
        stats = peers.stats("b")
        assert stats.latency_ms == pytest.approx(40, abs=5)
        assert stats.jitter_ms < 5
        assert stats.loss == 0
        assert abs(stats.clock_skew_ms) < 25
        assert stats.bytes_in > 5000
        assert stats.bytes_out > 5000
        assert stats.since_s == pytest.approx(60, abs=1)
        assert peers.stats("b").bytes_in < 100
        assert peers.stats("nobody") is None


async def test_no_call_to_strangers_and_none_after_the_end():
    async with nodes("a", "b") as (_, made):
        with pytest.raises(CallFailed) as caught:
            await made["a"].peers.call("x", "echo", {}, timeout=1)
        assert caught.value.kind == "disconnected"
    with pytest.raises(CallFailed):
        await made["a"].peers.call("b", "echo", {}, timeout=1)
    assert made["a"].kinds()[-1] == "peer.disconnected"


async def test_static_peers_that_are_no_multiaddr_are_a_config_error():
    with pytest.raises(ConfigError, match="nonsense"):
        PeerNode("a", MemoryOverlay(MemoryNetwork(), "a"), LoopClock(), OverlayConfig(peers=["nonsense"]))


async def test_a_configured_peer_that_cannot_be_reached_is_said_until_it_is():
    network, far = MemoryNetwork(), Identity.generate().peer_id
    config = OverlayConfig(peers=[f"/ip4/127.0.0.1/tcp/1/p2p/{far}"])
    node = PeerNode("a", MemoryOverlay(network, "a"), LoopClock(), config)
    await node.start()
    await until(lambda: len(node.of("peer.dial_failed")) >= 3, 60)
    last = node.of("peer.dial_failed")[-1]
    assert node.peers.unreached == {far: last.error}  # type: ignore[attr-defined]
    late = PeerNode(far, MemoryOverlay(network, far), LoopClock())
    await late.start()
    late.peers.learn("a", node.overlay.addresses, "store")
    await until(lambda: node.peers.connected() == {far}, 60)
    assert node.peers.unreached == {}
    await node.stop()
    await late.stop()


async def test_a_peer_of_another_mesh_is_dialled_less_and_less():
    network = MemoryNetwork(latency_s=0.005)
    node = PeerNode("a", MemoryOverlay(network, "a"), LoopClock())
    other = PeerNode("b", MemoryOverlay(network, "b"), LoopClock(), mesh="elsewhere")
    for one in (node, other):
        await one.start()
    node.peers.learn("b", other.overlay.addresses, "mdns")
    refused_at = []
    for _ in range(8):
        await until(lambda: len(node.of("peer.refused", "b")) > len(refused_at), 700, every=0.5)
        refused_at.append(now())
    pauses = [round((after - before) / 60) for before, after in itertools.pairwise(refused_at)]
    assert pauses == [1, 2, 4, 8, 10, 10, 10]
    await other.stop()
    mended = PeerNode("b", MemoryOverlay(network, "b"), LoopClock())
    await mended.start()
    mended.peers.learn("a", node.overlay.addresses, "store")
    await until(lambda: node.peers.connected() == {"b"}, 5)
    await node.stop()
    await mended.stop()


async def test_a_configured_peer_of_another_mesh_is_said_until_it_is_in_ours():
    network, far = MemoryNetwork(), Identity.generate().peer_id
    config = OverlayConfig(peers=[f"/ip4/127.0.0.1/tcp/1/p2p/{far}"])
    node = PeerNode("a", MemoryOverlay(network, "a"), LoopClock(), config)
    other = PeerNode(far, MemoryOverlay(network, far), LoopClock(), mesh="elsewhere")
    for one in (node, other):
        await one.start()
    await until(lambda: node.peers.unreached, 60)
    other.peers.learn("a", node.overlay.addresses, "store")
    await until(lambda: node.peers.refused, 60)
    refusal = node.peers.refused[far]
    assert (refusal.rule, refusal.limit, refusal.value) == ("mesh", "lab", "elsewhere")
    assert node.peers.unreached == {}
    await other.stop()
    mended = PeerNode(far, MemoryOverlay(network, far), LoopClock())
    await mended.start()
    mended.peers.learn("a", node.overlay.addresses, "store")
    await until(lambda: node.peers.connected() == {far}, 60)
    assert node.peers.refused == node.peers.unreached == {}
    await node.stop()
    await mended.stop()


async def test_who_is_about_to_be_disconnected_for_its_mesh_is_not_heard():
    network = MemoryNetwork()
    heard: list[tuple[str, bytes]] = []
    made = [
        PeerNode("a", MemoryOverlay(network, "a"), LoopClock()),
        PeerNode("b", MemoryOverlay(network, "b"), LoopClock(), mesh="elsewhere"),
    ]
    for node in made:
        node.peers.register("offers", lambda peer, data: heard.append((peer, data)))
        await node.start()
    introduce(*made)
    await until(lambda: made[0].of("peer.refused", "b"))
    assert not made[0].of("peer.disconnected", "b")
    made[0].peers.on_gossip("/mesh/lab/offers/1.0.0", "b", b"told before it went there, and kept by somebody")
    assert heard == []
    for node in made:
        await node.stop()


async def test_every_call_has_exactly_one_outcome_while_the_network_breaks_and_heals():
    """Law of the layer: whatever happens, each call returns or raises CallFailed, once, by its deadline."""
    async with nodes(*NAMES, latency_s=0.003) as (network, made):
        outcomes: list[str] = []

        async def ask(n: int) -> None:
            asker, server = made[NAMES[n % 5]], NAMES[(n * 7 + 1 + n % 4) % 5]
            begun = now()
            try:
                reply = await asker.peers.call(server, "echo", {"n": n}, bytes(n * 37 % 20_000), timeout=2)
                assert reply.header == {"n": n}
                outcomes.append("answered")
            except CallFailed as failure:
                outcomes.append(failure.kind)
            assert now() - begun < 2.1

        async def trouble() -> None:
            for step in range(20):
                one, other = NAMES[step % 5], NAMES[(step * 3 + 1) % 5]
                if one != other:
                    network.partition(one, other, silent=bool(step % 2))
                    await asyncio.sleep(1.5)
                    network.heal(one, other)
                if step % 7 == 3:
                    network.restart(one)
                await asyncio.sleep(0.5)

        troubled = asyncio.create_task(trouble())
        asks = []
        for n in range(2000):
            asks.append(asyncio.create_task(ask(n)))
            await asyncio.sleep(0.02)
        await asyncio.gather(troubled, *asks)
        assert len(outcomes) == 2000
        assert outcomes.count("answered") > 1500
        assert set(outcomes) <= {"answered", "disconnected", "expired"}
        await until(lambda: all(len(node.peers.connected()) == 4 for node in made.values()), 200)
        for node in made.values():
            assert all(link.calling.in_flight == 0 for link in node.peers._links.values())


class Mute:
    """An overlay handler that takes streams and says nothing."""

    def __init__(self):
        self.streams = []

    def on_fact(self, fact: OverlayFact) -> None: ...

    def on_stream(self, stream: Stream) -> None:
        self.streams.append(stream)

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None: ...

    async def hang_up(self, *more: Stream) -> None:
        for stream in (*self.streams, *more):
            stream.writer.close()
        await asyncio.sleep(0.01)


async def test_peers_take_turns_at_the_heartbeat_and_both_measure():
    """Whoever starts: a beat a second for the two of them, and no silence that is longer."""
    async with nodes("a", "b", latency_s=0.02) as (_, made):
        await asyncio.sleep(0.4)
        links = [made["a"].peers._links["b"], made["b"].peers._links["a"]]
        await asyncio.sleep(20)
        before = [link.heartbeats._sequence for link in links]
        await asyncio.sleep(60)
        pings = [link.heartbeats._sequence - start for link, start in zip(links, before, strict=True)]
        assert min(pings) >= 60 / 4 - 1
        assert 48 <= sum(pings) <= 75
        assert all(link.heartbeats.latency_s > 0 for link in links)
        assert not made["a"].of("peer.suspected") + made["b"].of("peer.suspected")
