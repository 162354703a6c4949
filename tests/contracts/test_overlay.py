"""What every overlay must do, whichever technology is behind it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.errors import ListenError
from mesh.identity import Identity
from mesh.p2p import network_key
from mesh.p2p.access import Access
from mesh.p2p.addresses import target_of, udp_target_of
from mesh.p2p.overlay import (
    Connected,
    DialFailed,
    Disconnected,
    Identified,
    OverlayDown,
    Refused,
    Restarted,
    Stream,
    StreamRefused,
)
from tests.kit.certificates import make_certificate
from tests.kit.overlays import PROTOCOL, TOPIC, MemoryWorld, ProcessWorld, Recorder, World, reset
from tests.kit.ports import own_host

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def read_to_end(stream: Stream) -> bytes:
    """What arrives until the stream ends, however it ends."""
    received = b""
    try:
        while data := await asyncio.wait_for(stream.reader.read(65536), 60):
            received += data
    except ConnectionError:
        pass
    return received


class OverlayContract:
    """The worlds have no DHT: who provides something dials others by itself, long after it was told to."""

    async def test_a_dial_connects_and_tells_both(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.overlay.dial(b.peer, b.overlay.addresses, 10)
        (ours,) = a.heard.of(Connected)
        assert (ours.peer, ours.direction) == (b.peer, "outbound")
        await b.heard.until(lambda: b.heard.of(Connected))
        (theirs,) = b.heard.of(Connected)
        assert (theirs.peer, theirs.direction) == (a.peer, "inbound")
        assert ours.setup_ms >= 0

    async def test_peers_say_what_they_are(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        for near, far in ((a, b), (b, a)):
            said = lambda near=near, far=far: [fact for fact in near.heard.of(Identified) if fact.peer == far.peer]  # noqa: E731
            identified = (await near.heard.until(said))[0]
            assert PROTOCOL in identified.protocols
            assert set(far.overlay.addresses) <= set(identified.addresses)

    async def test_our_addresses_name_us(self, world: World) -> None:
        for node in world.nodes:
            assert node.overlay.addresses
            assert all(address.endswith(f"/p2p/{node.peer}") for address in node.overlay.addresses)

    async def test_dialling_who_is_connected_does_nothing(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        await a.overlay.dial(b.peer, [], 30)
        await b.overlay.dial(a.peer, a.overlay.addresses, 30)
        assert len(a.heard.of(Connected)) == len(b.heard.of(Connected)) == 1

    async def test_a_dial_without_addresses_fails(self, world: World) -> None:
        a, b, _ = world.nodes
        with pytest.raises(DialFailed, match=b.peer):
            await a.overlay.dial(b.peer, [], 5)

    async def test_a_dead_address_fails_and_is_named(self, world: World) -> None:
        a, b, _ = world.nodes
        with pytest.raises(DialFailed, match=re.escape("/ip4/127.0.0.1/tcp/1")):
            await a.overlay.dial(b.peer, ["/ip4/127.0.0.1/tcp/1"], 30)
        assert not a.heard.of(Connected)

    async def test_after_a_failed_dial_a_good_one_works_at_once(self, world: World) -> None:
        a, b, _ = world.nodes
        with pytest.raises(DialFailed):
            await a.overlay.dial(b.peer, ["/ip4/127.0.0.1/tcp/1"], 30)
        await a.dial(b)

    async def test_a_dead_address_does_not_hide_a_good_one(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.overlay.dial(b.peer, ["/ip4/127.0.0.1/tcp/1", *b.overlay.addresses], 10)
        assert a.is_connected(b)

    async def test_another_peer_at_the_address_is_not_the_one_we_wanted(self, world: World) -> None:
        a, b, c = world.nodes
        plain = [address.partition("/p2p/")[0] for address in c.overlay.addresses]
        with pytest.raises(DialFailed):
            await a.overlay.dial(b.peer, plain, 5)
        assert not a.is_connected(b)
        assert not a.is_connected(c)

    async def test_a_stream_needs_a_connection(self, world: World) -> None:
        a, b, _ = world.nodes
        with pytest.raises(StreamRefused):
            await a.overlay.open_stream(b.peer, PROTOCOL, 5)

    async def test_a_stream_of_an_unknown_protocol_is_refused(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        with pytest.raises(StreamRefused):
            await a.overlay.open_stream(b.peer, "/nobody/speaks/this", 5)
        await a.stream_to(b)

    async def test_a_mebibyte_goes_there_and_back(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        near, far = await a.stream_to(b)
        assert (far.peer, far.protocol) == (a.peer, PROTOCOL)
        sent = bytes(range(256)) * 4096

        async def echo() -> None:
            while data := await far.reader.read(65536):
                far.writer.write(data)
                await far.writer.drain()
            far.writer.close()

        async def send() -> None:
            for start in range(0, len(sent), 30_000):
                near.writer.write(sent[start : start + 30_000])
                await near.writer.drain()
            near.writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(echo())
            group.create_task(send())
            answer = group.create_task(read_to_end(near))
        assert answer.result() == sent

    async def test_either_direction_ends_on_its_own(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        near, far = await a.stream_to(b)
        near.writer.write(b"question")
        near.writer.write_eof()
        assert await far.reader.read(-1) == b"question"
        far.writer.write(b"answer")
        far.writer.close()
        assert await near.reader.read(-1) == b"answer"

    async def test_closing_ends_the_stream_for_the_peer_and_what_was_sent_arrives(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        near, far = await a.stream_to(b)
        near.writer.write(b"last words")
        near.writer.close()
        assert await read_to_end(far) == b"last words"
        again, _ = await a.stream_to(b)
        assert not again.writer.is_closing()

    async def test_streams_do_not_hold_each_other_up(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        stuck, _ = await a.stream_to(b)
        stuck.writer.write(b"x" * (8 << 20))  # nobody reads this
        free, far = await a.stream_to(b)
        free.writer.write(b"quick")
        assert await asyncio.wait_for(far.reader.readexactly(5), 60) == b"quick"

    async def test_disconnecting_ends_streams_and_tells_both(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        near, far = await a.stream_to(b)
        await a.overlay.disconnect(b.peer, "had enough")
        (gone,) = a.heard.of(Disconnected)
        assert (gone.peer, gone.reason) == (b.peer, "had enough")
        assert gone.connection == a.heard.of(Connected)[0].connection
        await b.heard.until(lambda: b.heard.of(Disconnected))
        assert await read_to_end(near) == await read_to_end(far) == b""
        with pytest.raises(StreamRefused):
            await a.overlay.open_stream(b.peer, PROTOCOL, 5)

    async def test_disconnecting_a_stranger_does_nothing(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.overlay.disconnect(b.peer, "for no reason")
        assert not a.heard.facts

    async def test_blocking_a_peer_cuts_it_off_at_once_and_keeps_it_out(self, world: World) -> None:
        a, b, c = world.nodes
        await a.dial(b)
        await a.dial(c)
        await a.overlay.restrict(Access(block=(b.peer,)))
        (gone,) = a.heard.of(Disconnected)
        assert (gone.peer, gone.reason) == (b.peer, f"{b.peer} is blocked")
        await b.heard.until(lambda: not b.is_connected(a))
        with pytest.raises(DialFailed, match="is blocked"):
            await a.overlay.dial(b.peer, b.overlay.addresses, 30)
        with suppress(DialFailed):  # it may learn of it only after its own half of the handshake
            await b.overlay.dial(a.peer, a.overlay.addresses, 30)
        refused = (await a.heard.until(lambda: a.heard.of(Refused)))[0]
        assert (refused.peer, refused.rule, refused.value) == (b.peer, "blocked_peer", b.peer)
        await b.heard.until(lambda: not b.is_connected(a))
        await a.stream_to(c)
        await a.overlay.restrict(Access())
        await b.dial(a)

    async def test_an_allow_list_admits_only_who_is_on_it(self, world: World) -> None:
        a, b, c = world.nodes
        await a.dial(b)
        await a.dial(c)
        await a.overlay.restrict(Access(allow=(c.peer,)))
        assert [gone.peer for gone in a.heard.of(Disconnected)] == [b.peer]
        await b.heard.until(lambda: not b.is_connected(a))
        with suppress(DialFailed):
            await b.overlay.dial(a.peer, a.overlay.addresses, 30)
        refused = (await a.heard.until(lambda: a.heard.of(Refused)))[0]
        assert (refused.peer, refused.rule) == (b.peer, "not_allowed")
        await a.stream_to(c)
        await a.overlay.restrict(Access())

    async def test_rules_outlive_the_overlay(self, world: World) -> None:
        a, b, c = world.nodes
        await a.overlay.restrict(Access(block=(b.peer,)))
        await world.crash(a)
        await c.dial(a)
        with pytest.raises(DialFailed, match="is blocked"):
            await a.overlay.dial(b.peer, b.overlay.addresses, 30)
        with suppress(DialFailed):
            await b.overlay.dial(a.peer, a.overlay.addresses, 30)
        assert (await a.heard.until(lambda: a.heard.of(Refused)))[0].rule == "blocked_peer"
        await a.overlay.restrict(Access())

    async def test_both_dial_at_once_and_are_connected_once(self, world: World) -> None:
        a, b, _ = world.nodes
        await asyncio.gather(a.dial(b), b.dial(a))
        for near, far in ((a, b), (b, a)):
            stream, other = await near.stream_to(far)
            stream.writer.write(b"hello")
            assert await other.reader.readexactly(5) == b"hello"
        assert [len(node.heard.of(Connected)) for node in (a, b)] == [1, 1], (a.heard.facts, b.heard.facts)
        assert not a.heard.of(Disconnected) + b.heard.of(Disconnected)
        await a.overlay.disconnect(b.peer, "done")
        await b.heard.until(lambda: b.heard.of(Disconnected))
        assert [len(node.heard.of(Disconnected)) for node in (a, b)] == [1, 1]

    async def test_gossip_reaches_who_is_not_connected_to_us_but_not_ourselves(self, world: World) -> None:
        a, b, c = world.nodes
        await a.dial(b)
        await b.dial(c)
        message = (TOPIC, a.peer, b"news")

        async def publish_until_heard() -> None:
            # Best effort: what is published before the subscriptions are known is lost.
            while not all(message in node.heard.gossip for node in (b, c)):
                await a.overlay.publish(TOPIC, b"news")
                await asyncio.sleep(0.1)

        await asyncio.wait_for(publish_until_heard(), 60)
        assert not a.heard.gossip

    async def test_an_overlay_that_runs_gives_a_sign_of_life(self, world: World) -> None:
        await asyncio.wait_for(world.nodes[0].overlay.check(), 60)

    async def test_a_crash_is_noticed_and_the_overlay_comes_back_where_it_was(self, world: World) -> None:
        a, b, c = world.nodes
        await a.dial(b)
        await c.dial(b)
        near, far = await a.stream_to(b)
        addresses = b.overlay.addresses
        await world.crash(b)
        for node in (a, c):
            await node.heard.until(lambda node=node: node.heard.of(Disconnected))
        assert {fact.peer for fact in b.heard.of(Disconnected)} == {a.peer, c.peer}
        assert isinstance(b.heard.facts[-1], Restarted)
        assert await read_to_end(near) == await read_to_end(far) == b""
        assert b.overlay.addresses == addresses
        await a.dial(b)
        await a.stream_to(b)

    async def test_nothing_works_once_it_is_stopped(self, lone_world: World) -> None:
        a, b = lone_world.nodes[:2]
        await a.dial(b)
        near, _ = await a.stream_to(b)
        await a.overlay.stop()
        assert len(a.heard.of(Disconnected)) == 1
        await b.heard.until(lambda: b.heard.of(Disconnected))
        assert await read_to_end(near) == b""
        for attempt in (
            a.overlay.dial(b.peer, b.overlay.addresses, 1),
            a.overlay.open_stream(b.peer, PROTOCOL, 1),
            a.overlay.publish(TOPIC, b"x"),
            a.overlay.provide(["x"]),
            a.overlay.find_providers("x", 1),
            a.overlay.check(),
        ):
            with pytest.raises(OverlayDown):
                await attempt
        await a.overlay.stop()


class TestMemoryOverlay(OverlayContract):
    @pytest_asyncio.fixture(loop_scope="module")
    async def world(self) -> AsyncIterator[World]:
        world = MemoryWorld(dht="")
        await world.start()
        yield world
        await world.stop()

    @pytest_asyncio.fixture(loop_scope="module")
    async def lone_world(self, world: World) -> World:
        return world

    async def test_a_partition_loses_the_connection_until_it_is_healed(self, world: MemoryWorld) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        world.network.partition(a.peer, b.peer)
        assert [len(node.heard.of(Disconnected)) for node in (a, b)] == [1, 1]
        with pytest.raises(DialFailed):
            await a.overlay.dial(b.peer, b.overlay.addresses, 0.1)
        world.network.heal(a.peer, b.peer)
        await a.dial(b)

    async def test_a_silent_partition_holds_bytes_and_dials(self, world: MemoryWorld) -> None:
        a, b, c = world.nodes
        await a.dial(b)
        near, far = await a.stream_to(b)
        world.network.partition(a.peer, b.peer, silent=True)
        world.network.partition(a.peer, c.peer, silent=True)
        near.writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(far.reader.readexactly(4), 0.05)
        with pytest.raises(DialFailed):
            await a.overlay.dial(c.peer, c.overlay.addresses, 0.05)
        with pytest.raises(StreamRefused):
            await a.overlay.open_stream(b.peer, PROTOCOL, 0.05)
        world.network.heal(a.peer, b.peer)
        assert await far.reader.readexactly(4) == b"late"

    async def test_who_is_killed_says_nothing_more(self, world: MemoryWorld) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        heard = len(b.heard.facts)
        world.network.kill(b.peer)
        assert a.heard.of(Disconnected)
        assert len(b.heard.facts) == heard

    async def test_two_overlays_with_one_identity_are_refused(self, world: MemoryWorld) -> None:
        twin = type(world.nodes[0].overlay)(world.network, world.nodes[0].peer)
        with pytest.raises(ListenError):
            await twin.start(Recorder(), protocols=[], topics=[])


# Who is killed comes back at its port, which nobody else may take meanwhile.
HERE = f"/ip4/{own_host()}"


def over_tcp(_: Path) -> dict[str, object]:
    return {"listen": [f"{HERE}/tcp/0"]}


def over_ws_with_a_network_key(directory: Path) -> dict[str, object]:
    network_key.write_file(directory / "swarm.key", network_key.generate())
    return {"listen": [f"{HERE}/tcp/0/ws"], "psk_file": str(directory / "swarm.key")}


def over_wss_with_tls(directory: Path) -> dict[str, object]:
    certificate = str(make_certificate(directory))
    return {
        "listen": [f"{HERE}/tcp/0/tls/ws"],
        "security": ["tls"],
        "wss_certificate": certificate,
        "wss_trust": certificate,
    }


def over_webrtc_direct(_: Path) -> dict[str, object]:
    return {"listen": [f"{HERE}/udp/0/webrtc-direct"]}


def over_quic(_: Path) -> dict[str, object]:
    return {"listen": [f"{HERE}/udp/0/quic-v1"]}


class ProcessContract(OverlayContract):
    """Three processes; every test of a class has the same three."""

    settings: Callable[[Path], dict[str, object]]
    transport: str
    security: str

    @pytest_asyncio.fixture(scope="class", loop_scope="module")
    @classmethod
    async def processes(cls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
        directory = tmp_path_factory.mktemp("overlay")
        world = ProcessWorld(directory, common=cls.settings(directory), dht="")
        await world.start()
        yield world
        await world.stop()

    @pytest_asyncio.fixture(loop_scope="module")
    async def world(self, processes: World) -> World:
        await reset(processes)
        return processes

    @pytest_asyncio.fixture(loop_scope="module")
    async def lone_world(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
        directory = tmp_path_factory.mktemp("lone")
        world = ProcessWorld(directory, count=2, common=type(self).settings(directory), dht="")
        await world.start()
        yield world
        await world.stop()

    async def test_what_carries_and_secures_a_connection_is_told_truly(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        for node in (a, b):
            (fact,) = node.heard.of(Connected)
            assert (fact.transport, fact.security) == (self.transport, self.security)
            assert (target_of(fact.address) or udp_target_of(fact.address)).transport == self.transport

    async def test_a_dial_for_somebody_else_at_the_address_leaves_the_connection_alone(self, world: World) -> None:
        a, b, _ = world.nodes
        await a.dial(b)
        places = [one.partition("/p2p/")[0] for one in b.overlay.addresses]
        for _ in range(3):
            with pytest.raises(DialFailed):
                await a.overlay.dial(Identity.generate().peer_id, places, 10)
        near, far = await a.stream_to(b)
        near.writer.write(b"still there")
        assert await asyncio.wait_for(far.reader.readexactly(11), 60) == b"still there"
        for node in (a, b):
            assert len(node.heard.of(Connected)) == 1
            assert not node.heard.of(Disconnected)


@pytest.mark.e2e
class TestProcessOverlay(ProcessContract):
    settings = staticmethod(over_tcp)
    transport, security = "tcp", "/noise"


@pytest.mark.e2e
class TestProcessOverlayOverWebSocketWithANetworkKey(ProcessContract):
    settings = staticmethod(over_ws_with_a_network_key)
    transport, security = "ws", "/noise"


@pytest.mark.e2e
class TestProcessOverlayOverSecureWebSocketWithTls(ProcessContract):
    settings = staticmethod(over_wss_with_tls)
    transport, security = "wss", "/tls/1.0.0"


@pytest.mark.e2e
class TestProcessOverlayOverQuic(ProcessContract):
    settings = staticmethod(over_quic)
    transport, security = "quic-v1", "/tls/1.0.0"


@pytest.mark.e2e
class TestProcessOverlayOverWebRtcDirect(ProcessContract):
    settings = staticmethod(over_webrtc_direct)
    transport, security = "webrtc-direct", "/noise"
