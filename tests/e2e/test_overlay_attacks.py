"""Attacks on a real overlay port: the node goes on serving others, records who it was, and does not grow."""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from mesh.p2p.addresses import target_of
from mesh.p2p.overlay import Connected, Disconnected, Misbehaved, OverlayFact, Refused, Restarted
from tests.kit.overlays import Node, ProcessWorld, pid_of, reset

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
ATTACKER = Path(__file__).parents[1] / "kit" / "attacker.py"
HANDSHAKE_S = 3.0
LISTEN = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"]
# Attackers that need no identity come from addresses of their own, which the limits can tell from the friend's.
STRANGERS = itertools.count(2)
MULTISTREAM = b"\x13/multistream/1.0.0\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: victim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def binary(data: bytes, claimed: int | None = None) -> bytes:
    """A WebSocket message, masked with zeros; ``claimed`` is the length that it says it has."""
    length = len(data) if claimed is None else claimed
    if length < 126:
        return bytes([0x82, 0x80 | length]) + bytes(4) + data
    return b"\x82\xff" + length.to_bytes(8) + bytes(4) + data


class Siege(ProcessWorld):
    """A victim, and a friend who is connected to it all the time."""

    strangers_from = ""
    over = "tcp"

    @property
    def victim(self) -> Node:
        return self.nodes[0]

    @property
    def friend(self) -> Node:
        return self.nodes[1]

    @property
    def address(self) -> str:
        """Where the victim listens for what is attacked."""
        return next(one for one in self.victim.overlay.addresses if target_of(one).transport == self.over)

    @property
    def files(self) -> int:
        return psutil.Process(pid_of(self.victim)).num_fds()

    async def still_serves(self) -> None:
        """The friend's connection is the same as before, and carries streams both ways; so do new ones."""
        assert not self.victim.heard.of(Restarted)
        assert not [fact for fact in self.victim.heard.of(Disconnected) if fact.peer == self.friend.peer]
        for near, far in ((self.friend, self.victim), (self.victim, self.friend)):
            stream, other = await near.stream_to(far)
            stream.writer.write(b"ping")
            assert await asyncio.wait_for(other.reader.readexactly(4), 60) == b"ping"
            stream.writer.close()
            other.writer.close()

    async def recorded(self, *rules: str) -> OverlayFact:
        def complaint() -> OverlayFact | None:
            complaints = [*self.victim.heard.of(Refused), *self.victim.heard.of(Misbehaved)]
            return next((fact for fact in complaints if fact.rule in rules), None)

        return await self.victim.heard.until(complaint)

    def stranger(self) -> socket.socket:
        sock = socket.socket()
        sock.bind((self.strangers_from, 0))
        sock.settimeout(30)
        sock.connect(("127.0.0.1", target_of(self.address).port))
        return sock

    def guest(self) -> socket.socket:
        """A stranger who is past what is below libp2p."""
        sock = self.stranger()
        if self.over == "ws":
            sock.sendall(UPGRADE)
            assert b" 101 " in sock.recv(4096)
        return sock

    def framed(self, data: bytes) -> bytes:
        return binary(data) if self.over == "ws" else data

    async def attack(self, name: str) -> str:
        """Let a hostile libp2p peer do its worst; what it printed."""
        process = subprocess.Popen(
            [sys.executable, str(ATTACKER), name, self.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = await asyncio.to_thread(process.communicate, None, 180)
        finally:
            process.kill()
        assert process.returncode == 0, output
        return output


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    siege = Siege(
        tmp_path_factory.mktemp("siege"),
        count=2,
        settings=[{"handshake_timeout_s": HANDSHAKE_S, "inbound_per_address_per_s": 20.0, "listen": LISTEN}],
    )
    await siege.start()
    yield siege
    await siege.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def siege(besieged: Siege) -> AsyncIterator[Siege]:
    await reset(besieged)
    besieged.strangers_from = f"127.0.0.{next(STRANGERS)}"
    besieged.over = "tcp"
    await besieged.friend.dial(besieged.victim)
    yield besieged
    await besieged.still_serves()


@pytest.fixture(params=["tcp", "ws"])
def door(siege: Siege, request: pytest.FixtureRequest) -> Siege:
    """What is attacked: the port of TCP, and the one of WebSocket."""
    siege.over = request.param
    return siege


async def until_closed(sock: socket.socket, timeout_s: float = 60) -> None:
    """The other side hangs up."""
    sock.settimeout(timeout_s)

    def read() -> None:
        try:
            while sock.recv(4096):
                pass
        except ConnectionError:
            pass

    await asyncio.to_thread(read)
    sock.close()


async def until_flat(process: psutil.Process, files: int) -> None:
    async with asyncio.timeout(60):
        while process.num_fds() > files:
            await asyncio.sleep(0.05)


async def test_random_bytes_are_dropped_and_recorded(door: Siege) -> None:
    for size in (1, 20, 500, 100_000):
        sock = door.stranger()
        try:
            sock.sendall(os.urandom(size))
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has hung up already: also "not connected", which is no ConnectionError
            pass
        await until_closed(sock)
    complaint = await door.recorded("handshake", "handshake_deadline")
    assert door.strangers_from in complaint.address


async def test_a_length_that_nobody_could_send_is_not_believed(door: Siege) -> None:
    process = psutil.Process(pid_of(door.victim))
    before = process.memory_info().rss
    sock = door.guest()
    sock.sendall(door.framed(MULTISTREAM + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"A" * 100_000))
    await until_closed(sock)
    assert process.memory_info().rss - before < 20 << 20


@pytest.mark.parametrize(("over", "upgraded"), [("tcp", False), ("ws", False), ("ws", True)])
async def test_a_slow_loris_meets_the_deadline(siege: Siege, over: str, upgraded: bool) -> None:
    siege.over = over
    sock = siege.guest() if upgraded else siege.stranger()
    libp2p = upgraded or over == "tcp"
    drops = [siege.framed(bytes([byte])) for byte in MULTISTREAM * 100] if libp2p else [bytes([b]) for b in UPGRADE]

    async def drip() -> None:
        for drop in drops:
            sock.sendall(drop)
            await asyncio.sleep(0.1)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(drip(), HANDSHAKE_S + 30)
    sock.close()
    complaint = await siege.recorded("handshake_deadline")
    assert isinstance(complaint, Refused)
    assert (complaint.limit, complaint.value.endswith(" s")) == (f"{HANDSHAKE_S:g} s", True)


async def test_half_open_connections_meet_the_deadline_and_leave_room_for_others(door: Siege) -> None:
    files = door.files
    silent = [door.stranger() for _ in range(45)]
    assert isinstance(await door.recorded("handshakes_per_address"), Refused)
    await door.friend.overlay.disconnect(door.victim.peer, "to come again")
    await door.victim.heard.until(lambda: door.victim.heard.of(Disconnected))
    door.victim.heard.facts = [f for f in door.victim.heard.facts if not isinstance(f, Disconnected)]
    await door.friend.dial(door.victim)
    await asyncio.gather(*(until_closed(sock) for sock in silent))
    assert isinstance(await door.recorded("handshake_deadline"), Refused)
    await until_flat(psutil.Process(pid_of(door.victim)), files + 2)


async def test_an_address_that_hammers_is_slowed_down(door: Siege) -> None:
    for _ in range(8):  # thirty at a time, or a busy machine is slower than the limit
        socks = [door.stranger() for _ in range(30)]
        for sock in socks:
            with suppress(OSError):  # it was refused already
                sock.shutdown(socket.SHUT_WR)
        await asyncio.gather(*(until_closed(sock) for sock in socks))
    assert isinstance(await door.recorded("inbound_per_address_per_s"), Refused)
    complaints = [*door.victim.heard.of(Refused), *door.victim.heard.of(Misbehaved)]
    assert len(complaints) < 40


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X-Padding: x\r\n" * 5000, id="endless headers"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n", id="no upgrade"),
        pytest.param(UPGRADE.replace(b"victim", b"\xff\xfe"), id="a host that is no text"),
        pytest.param(UPGRADE.replace(b"victim", b"xn--" + b"9" * 200), id="a host that is no name"),
        pytest.param(UPGRADE.replace(b"GET / ", b"GET /\xff "), id="a path that is no text"),
        pytest.param(UPGRADE + binary(b"", claimed=1 << 62) + b"A" * 300_000, id="an endless message"),
        pytest.param(UPGRADE + b"\x82\xff" + (1).to_bytes(8) + bytes(4) + b"x", id="a length in too many bytes"),
        pytest.param(UPGRADE + b"\x81\x84" + bytes(4) + b"text", id="text"),
        pytest.param(UPGRADE + b"\x81\x84" + bytes(4) + b"\xff\xff\xff\xff", id="text that is none"),
        pytest.param(UPGRADE + b"\xc2\x84" + bytes(4) + b"junk", id="compressed"),
        pytest.param(UPGRADE + b"\x82\x04junk", id="unmasked"),
        pytest.param(UPGRADE + b"\x88\x80" + bytes(4), id="a close"),
        pytest.param(UPGRADE + (b"\x89\xfd" + bytes(4) + b"p" * 125) * 3000, id="too many pings"),
    ],
)
async def test_what_is_no_websocket_is_dropped(siege: Siege, message: bytes) -> None:
    siege.over = "ws"
    process = psutil.Process(pid_of(siege.victim))
    before = process.memory_info().rss
    sock = siege.stranger()
    try:
        await asyncio.to_thread(sock.sendall, message)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it was thrown out, or is waited for: pings whose answers nobody reads
    await until_closed(sock)
    assert siege.strangers_from in (await siege.recorded("handshake", "handshake_deadline")).address
    assert process.memory_info().rss - before < 8 << 20


@pytest.mark.parametrize(
    ("attack", "rules"),
    [
        ("random_protocol_name", ["stream"]),
        ("bad_negotiation", []),
        ("oversized_frame", []),
        ("random_frames", []),
        ("ignored_windows", ["receive_window"]),
        ("stream_flood", ["stream_flood"]),
        ("gossip_junk", ["gossip_message", "gossip_rpc"]),
        ("gossip_garbage", ["gossip_rpc"]),
        ("gossip_oversized", []),
        ("identify_junk", ["identify"]),
        ("dht_garbage", ["dht_message"]),
        ("dht_forgery", ["dht_rate"]),
    ],
)
async def test_a_hostile_peer_is_survived_and_recorded(siege: Siege, attack: str, rules: list[str]) -> None:
    assert "done" in await siege.attack(attack)
    if rules:
        complaint = await siege.recorded(*rules)
        assert complaint.peer
        assert complaint.peer != siege.friend.peer
    assert await siege.friend.overlay.find_providers("forged", 5) == ()


async def test_a_peer_that_stops_reading_holds_up_nobody(siege: Siege) -> None:
    """2.4 MB of gossip that it asked for and never takes; the friend gets all of it meanwhile, and answers at once."""
    victim, friend = siege.victim, siege.friend
    before = psutil.Process(pid_of(victim)).memory_info().rss
    attack = await asyncio.create_subprocess_exec(
        sys.executable, str(ATTACKER), "never_reads", siege.address, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    await victim.heard.until(lambda: [f for f in victim.heard.of(Connected) if f.peer != friend.peer])
    stream, far = await siege.friend.stream_to(victim)
    for number in range(80):
        async with asyncio.timeout(10):
            await victim.overlay.publish("test", number.to_bytes(2, "big") + bytes(30_000))
            stream.writer.write(b"ping")
            assert await far.reader.readexactly(4) == b"ping"
    await friend.heard.until(lambda: len({data[:2] for _, _, data in friend.heard.gossip}) >= 76, 30)
    assert attack.returncode is None
    assert psutil.Process(pid_of(victim)).memory_info().rss - before < 30 << 20
    attack.kill()
    assert b"deaf" in (await attack.communicate())[0]
    for one in (stream, far):
        one.writer.close()


async def test_hostile_peers_over_websocket_are_survived_and_recorded(siege: Siege) -> None:
    siege.over = "ws"
    attacks = {"random_protocol_name": "stream", "oversized_frame": "", "random_frames": "",
               "ignored_windows": "receive_window", "stream_flood": "stream_flood", "gossip_garbage": "gossip_rpc",
               "identify_junk": "identify"}  # fmt: skip
    output = await siege.attack(",".join(attacks))
    assert "done" in output
    for rule in filter(None, attacks.values()):
        complaint = await siege.recorded(rule)
        assert complaint.peer not in ("", siege.friend.peer)
        assert target_of(complaint.address).transport == "ws"


async def test_memory_and_files_stay_flat_over_many_connections(door: Siege) -> None:
    """py-libp2p as shipped keeps a task and 12 KB of every connection, and refuses everybody after 250 of them."""
    process = psutil.Process(pid_of(door.victim))
    await door.attack("connect_and_go")  # caches fill
    files, before = process.num_fds(), process.memory_info().rss
    attackers, others = (4, 200) if door.over == "tcp" else (1, 60)
    *outputs, _ = await asyncio.gather(
        *(door.attack("connect_and_go") for _ in range(attackers)), strangers(door, others)
    )
    assert outputs == ["done\n"] * attackers, "not every connection was accepted"
    await until_flat(process, files + 2)
    grown = process.memory_info().rss - before
    assert grown < 6 << 20, f"{grown} bytes more after many secured connections and {others} random ones"


async def strangers(siege: Siege, count: int) -> None:
    for _ in range(count):
        try:
            sock = siege.stranger()
            sock.sendall(os.urandom(200))
            sock.close()
        except ConnectionError:
            pass
        await asyncio.sleep(0.05)
