"""WebRTC-direct between real overlay processes, and what strangers can do to its port."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

pytest.importorskip("google_crc32c", reason="the [webrtc] extra is not installed")

from mesh.config import OverlayConfig
from mesh.errors import ConfigError
from mesh.identity import Identity
from mesh.p2p import host_config
from mesh.p2p.access import Access
from mesh.p2p.host.webrtc import stun
from mesh.p2p.host.webrtc.certificates import certhash, of_seed
from mesh.p2p.host.webrtc.sctp.packets import packet
from mesh.p2p.overlay import Connected, DialFailed, Disconnected, Identified, Misbehaved, Refused, Restarted
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.freezing import frozen
from tests.kit.overlays import Node, ProcessWorld, Recorder, pid_of, reset
from tests.kit.peer_child import real_node
from tests.kit.peer_nodes import until
from tests.kit.webrtc_strangers import Stranger, strangers

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

WITHIN_S = 40.0
LISTEN = "/ip4/127.0.0.1/udp/0/webrtc-direct"
SILENCE_S, HANDSHAKE_S = 4.0, 4.0
PER_ADDRESS = 32


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessWorld]:
    common = {"listen": [LISTEN], "silence_timeout_s": SILENCE_S, "handshake_timeout_s": HANDSHAKE_S}
    world = ProcessWorld(tmp_path_factory.mktemp("webrtc"), count=2, common=common, dht="")
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(processes: ProcessWorld) -> ProcessWorld:
    await reset(processes)
    return processes


async def refused(node: Node, rule: str) -> Refused:
    return (await node.heard.until(lambda: [one for one in node.heard.of(Refused) if one.rule == rule], WITHIN_S))[0]


def complaints(node: Node, *about: Stranger) -> list[Misbehaved | Refused]:
    """What the node says of these: others' sockets are closed while it still counts them."""
    places = [f"/udp/{one.socket.getsockname()[1]}/" for one in about]
    said = [*node.heard.of(Misbehaved), *node.heard.of(Refused)]
    return [one for one in said if any(place in one.address for place in places)]


async def exchange(a: Node, b: Node, size: int = 1 << 20) -> None:
    """So much both ways on a stream, and its end."""
    near, far = await a.stream_to(b)
    sent = random.Random(size).randbytes(size)

    async def one_way(stream, other) -> None:
        stream.writer.write(sent)
        await stream.writer.drain()
        stream.writer.write_eof()

    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as both:
        both.create_task(one_way(near, far))
        both.create_task(one_way(far, near))
        reading = [both.create_task(stream.reader.read()) for stream in (near, far)]
    assert [task.result() == sent for task in reading] == [True, True]


async def test_both_know_how_they_are_connected_and_carry_bytes_both_ways(world: ProcessWorld) -> None:
    a, b = world.nodes
    await a.dial(b)
    for node, other in ((a, b), (b, a)):
        (fact,) = node.heard.of(Connected)
        assert (fact.transport, fact.security, fact.muxer) == ("webrtc-direct", "/noise", "/webrtc-direct")
        identified = (await node.heard.until(lambda node=node: node.heard.of(Identified), WITHIN_S))[0]
        assert set(identified.addresses) == set(other.overlay.addresses)
    await exchange(a, b)
    await exchange(b, a, 100)


async def test_its_address_names_a_certificate_that_outlives_the_process(world: ProcessWorld) -> None:
    a, b = world.nodes
    (address,) = b.overlay.addresses
    assert f"/webrtc-direct/certhash/{certhash(of_seed(b.overlay._identity.seed).fingerprint)}/p2p/" in address
    await world.crash(b)
    assert b.overlay.addresses == (address,)
    await a.overlay.dial(b.peer, [address], WITHIN_S)


async def test_another_certificate_or_another_peer_is_not_talked_to(world: ProcessWorld) -> None:
    a, b = world.nodes
    place, _, _ = b.overlay.addresses[0].partition("/certhash/")
    other = certhash(of_seed(bytes(32)).fingerprint)
    with pytest.raises(DialFailed, match="its certificate is not the one of the address"):
        await a.overlay.dial(b.peer, [f"{place}/certhash/{other}"], WITHIN_S)
    with pytest.raises(DialFailed, match=r"not a SHA-256|nvalid"):
        await a.overlay.dial(b.peer, [f"{place}/certhash/uEiA"], WITHIN_S)
    stranger = Identity.generate().peer_id
    with pytest.raises(DialFailed, match=f"it is {b.peer}, not {stranger}"):
        await a.overlay.dial(stranger, [b.overlay.addresses[0].partition("/p2p/")[0]], WITHIN_S)


async def test_nobody_at_an_address_is_known_at_once(world: ProcessWorld) -> None:
    a, b = world.nodes
    digest = b.overlay.addresses[0].partition("/certhash/")[2].partition("/")[0]
    with pytest.raises(DialFailed, match="nobody listens there"):
        await a.overlay.dial(b.peer, [f"/ip4/127.0.0.1/udp/9/webrtc-direct/certhash/{digest}"], WITHIN_S)


async def test_addresses_that_are_not_proved_cost_nobody_a_place(world: ProcessWorld) -> None:
    """Hundreds of first hellos and STUN requests, as forged ones would come: nothing is counted, nothing reported."""
    a, b = world.nodes
    address = b.overlay.addresses[0]
    with strangers(address, 3 * PER_ADDRESS) as crowd:
        for one in crowd:
            one.say(stun.request(b"libp2p+webrtc+v1/x", os.urandom(12), 1))
            one.say(one.hello)
        await a.dial(b)
        await exchange(a, b, 1000)
        assert not complaints(b, *crowd)


async def test_strangers_are_counted_and_have_one_deadline_and_then_there_is_room_again(world: ProcessWorld) -> None:
    a, b = world.nodes
    with strangers(b.overlay.addresses[0], PER_ADDRESS + 1) as crowd:
        for one in crowd:
            one.prove_address()
        crowding = await refused(b, "handshakes_per_address")
        assert (crowding.limit, crowding.value) == (str(PER_ADDRESS), str(PER_ADDRESS + 1))
        late = await refused(b, "handshake_deadline")
        assert late.limit == f"{HANDSHAKE_S:g} s"
        assert late.address.endswith("/webrtc-direct")
        async with asyncio.timeout(WITHIN_S):
            while not a.is_connected(b):
                with suppress(DialFailed):
                    await a.overlay.dial(b.peer, b.overlay.addresses, 5)


async def test_who_is_blocked_is_refused_with_the_rule(world: ProcessWorld) -> None:
    b = world.nodes[1]
    await b.overlay.restrict(Access(block=("127.0.0.0/8",)))
    try:
        with strangers(b.overlay.addresses[0], 1) as (one,):
            one.prove_address()
            assert (await refused(b, "blocked_address")).address.startswith("/ip4/127.0.0.1/udp/")
    finally:
        await b.overlay.restrict(Access())


async def test_garbage_is_survived_and_said_to_be_the_peers_fault(world: ProcessWorld) -> None:
    a, b = world.nodes
    await a.dial(b)
    chance = random.Random(1)
    with strangers(b.overlay.addresses[0], 2) as (anybody, proved):
        for _ in range(300):
            anybody.say(chance.randbytes(chance.randrange(100)))
            anybody.say(bytes([chance.randrange(4)]) + chance.randbytes(60))
            anybody.say(anybody.hello[: chance.randrange(len(anybody.hello))] + chance.randbytes(10))
        proved.finish_dtls()
        proved.send(packet(0, b"\x01\x00\x00\x03"))
        faults = await b.heard.until(lambda: complaints(b, proved), WITHIN_S)
        assert [(fault.rule, "chunk" in fault.detail) for fault in faults] == [("handshake", True)]
        assert not complaints(b, anybody)
    await exchange(a, b, 1000)
    assert not b.heard.of(Disconnected)


async def test_a_peer_that_stops_says_so_and_one_that_is_killed_is_noticed(world: ProcessWorld) -> None:
    a, b = world.nodes
    await a.dial(b)
    os.kill(pid_of(a), signal.SIGTERM)
    gone = (await b.heard.until(lambda: b.heard.of(Disconnected), WITHIN_S))[0]
    assert gone.reason == "closed by the peer"
    await a.heard.until(lambda: a.heard.of(Restarted), WITHIN_S)
    for killed, other in ((a, b), (b, a)):
        await reset(world)
        await a.dial(b)
        await world.crash(killed)
        await other.heard.until(lambda other=other: other.heard.of(Disconnected), WITHIN_S)


async def test_a_frozen_peer_is_noticed_and_holds_nobody(world: ProcessWorld) -> None:
    a, b = world.nodes
    await a.dial(b)
    near, _ = await a.stream_to(b)
    with frozen(pid_of(b)):
        near.writer.write(bytes(4 << 20))
        gone = (await a.heard.until(lambda: a.heard.of(Disconnected), WITHIN_S))[0]
        assert "silent" in gone.reason
        near.writer.transport.abort()


async def test_two_nodes_call_each_other_and_nobody_misbehaves(tmp_path: Path) -> None:
    (a, _), (b, there) = (real_node(tmp_path / name, listen=LISTEN) for name in "ab")
    await asyncio.gather(a.start(), b.start())
    try:
        a.peers.learn(b.peer_id, list(there.addresses), "static")
        await until(lambda: b.peer_id in a.peers.connected() and a.peer_id in b.peers.connected(), WITHIN_S)
        for size in (0, 3_000_000):
            body = os.urandom(size)
            reply = await a.peers.call(b.peer_id, "echo", {"size": size}, body, timeout=WITHIN_S)
            assert reply.body == body
        replies = await asyncio.gather(
            *(b.peers.call(a.peer_id, "echo", {"n": n}, b"%d" % n, timeout=WITHIN_S) for n in range(100))
        )
        assert [reply.header["n"] for reply in replies] == list(range(100))
        assert [one.transport for one in a.of("peer.connected", b.peer_id)] == ["webrtc-direct"]
        assert "peer.misbehaved" not in a.kinds() + b.kinds()
    finally:
        await asyncio.gather(a.stop(), b.stop())


async def test_nothing_of_it_is_loaded_where_it_is_not_listened_on() -> None:
    code = "import sys, mesh.p2p.host.service; print([m for m in sys.modules if 'webrtc' in m or 'crc32c' in m])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode().strip() == "[]"


async def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_config, "find_spec", lambda _: None)
    overlay = ProcessOverlay(
        Identity.generate(), OverlayConfig(listen=[LISTEN]), tmp_path / "run", tmp_path / "log", agent="test/1"
    )
    with pytest.raises(ConfigError, match="google-crc32c") as raised:
        await overlay.start(Recorder(), protocols=[], topics=[])
    assert "synaptic-mesh[webrtc]" in raised.value.remedy
