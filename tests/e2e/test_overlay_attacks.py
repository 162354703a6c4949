"""Attacks on a real overlay port: the node goes on serving others, records who it was, and does not grow."""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from mesh.p2p.overlay import Connected, Disconnected, Misbehaved, OverlayFact, Refused, Restarted
from tests.kit.overlays import Node, ProcessWorld, pid_of, reset

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
ATTACKER = Path(__file__).parents[1] / "kit" / "attacker.py"
HANDSHAKE_S = 1.5
# Attackers that need no identity come from addresses of their own, which the limits can tell from the friend's.
STRANGERS = itertools.count(2)
MULTISTREAM = b"\x13/multistream/1.0.0\n"


class Siege(ProcessWorld):
    """A victim, and a friend who is connected to it all the time."""

    strangers_from = ""

    @property
    def victim(self) -> Node:
        return self.nodes[0]

    @property
    def friend(self) -> Node:
        return self.nodes[1]

    @property
    def port(self) -> int:
        return int(self.victim.overlay.addresses[0].split("/")[4])

    async def still_serves(self) -> None:
        """The friend's connection is the same as before, and carries streams both ways; so do new ones."""
        assert not self.victim.heard.of(Restarted)
        assert not [fact for fact in self.victim.heard.of(Disconnected) if fact.peer == self.friend.peer]
        for near, far in ((self.friend, self.victim), (self.victim, self.friend)):
            stream, other = await near.stream_to(far)
            stream.writer.write(b"ping")
            assert await asyncio.wait_for(other.reader.readexactly(4), 5) == b"ping"
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
        sock.settimeout(5)
        sock.connect(("127.0.0.1", self.port))
        return sock

    async def attack(self, name: str) -> str:
        """Let a hostile libp2p peer do its worst; what it printed."""
        process = subprocess.Popen(
            [sys.executable, str(ATTACKER), name, self.victim.overlay.addresses[0]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = await asyncio.to_thread(process.communicate, None, 90)
        finally:
            process.kill()
        assert process.returncode == 0, output
        return output


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    siege = Siege(
        tmp_path_factory.mktemp("siege"),
        count=2,
        settings=[{"handshake_timeout_s": HANDSHAKE_S, "inbound_per_address_per_s": 20.0}],
    )
    await siege.start()
    yield siege
    await siege.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def siege(besieged: Siege) -> AsyncIterator[Siege]:
    await reset(besieged)
    besieged.strangers_from = f"127.0.0.{next(STRANGERS)}"
    await besieged.friend.dial(besieged.victim)
    yield besieged
    await besieged.still_serves()


async def until_closed(sock: socket.socket, timeout_s: float = 10) -> None:
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
    async with asyncio.timeout(15):
        while process.num_fds() > files:
            await asyncio.sleep(0.05)


async def test_random_bytes_are_dropped_and_recorded(siege: Siege) -> None:
    for size in (1, 20, 500, 100_000):
        sock = siege.stranger()
        try:
            sock.sendall(os.urandom(size))
            sock.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        await until_closed(sock)
    complaint = await siege.recorded("handshake", "handshake_deadline")
    assert siege.strangers_from in complaint.address


async def test_a_length_that_nobody_could_send_is_not_believed(siege: Siege) -> None:
    process = psutil.Process(pid_of(siege.victim))
    before = process.memory_info().rss
    sock = siege.stranger()
    sock.sendall(MULTISTREAM + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"A" * 100_000)
    await until_closed(sock)
    assert process.memory_info().rss - before < 20 << 20


async def test_a_slow_loris_meets_the_deadline(siege: Siege) -> None:
    sock = siege.stranger()

    async def drip() -> None:
        for byte in MULTISTREAM * 100:
            sock.send(bytes([byte]))
            await asyncio.sleep(0.1)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(drip(), HANDSHAKE_S + 5)
    sock.close()
    complaint = await siege.recorded("handshake_deadline")
    assert isinstance(complaint, Refused)
    assert (complaint.limit, complaint.value.endswith(" s")) == (f"{HANDSHAKE_S:g} s", True)


async def test_half_open_connections_meet_the_deadline_and_leave_room_for_others(siege: Siege) -> None:
    files = psutil.Process(pid_of(siege.victim)).num_fds()
    silent = [siege.stranger() for _ in range(45)]
    assert isinstance(await siege.recorded("handshakes_per_address"), Refused)
    await siege.friend.overlay.disconnect(siege.victim.peer, "to come again")
    await siege.victim.heard.until(lambda: siege.victim.heard.of(Disconnected))
    siege.victim.heard.facts = [f for f in siege.victim.heard.facts if not isinstance(f, Disconnected)]
    await siege.friend.dial(siege.victim)
    await asyncio.gather(*(until_closed(sock) for sock in silent))
    assert isinstance(await siege.recorded("handshake_deadline"), Refused)
    await until_flat(psutil.Process(pid_of(siege.victim)), files + 2)


async def test_an_address_that_hammers_is_slowed_down(siege: Siege) -> None:
    for _ in range(80):
        sock = siege.stranger()
        sock.shutdown(socket.SHUT_WR)
        await until_closed(sock)
    assert isinstance(await siege.recorded("inbound_per_address_per_s"), Refused)
    complaints = [*siege.victim.heard.of(Refused), *siege.victim.heard.of(Misbehaved)]
    assert len(complaints) < 40


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
    ],
)
async def test_a_hostile_peer_is_survived_and_recorded(siege: Siege, attack: str, rules: list[str]) -> None:
    assert "done" in await siege.attack(attack)
    if rules:
        complaint = await siege.recorded(*rules)
        assert complaint.peer
        assert complaint.peer != siege.friend.peer


async def test_a_peer_that_stops_reading_holds_up_nobody(siege: Siege) -> None:
    """2.4 MB of gossip that it asked for and never takes; the friend gets all of it meanwhile, and answers at once."""
    victim, friend = siege.victim, siege.friend
    before = psutil.Process(pid_of(victim)).memory_info().rss
    attack = asyncio.create_task(siege.attack("never_reads"))
    await victim.heard.until(lambda: [f for f in victim.heard.of(Connected) if f.peer != friend.peer])
    stream, far = await siege.friend.stream_to(victim)
    for number in range(80):
        async with asyncio.timeout(2):
            await victim.overlay.publish("test", number.to_bytes(2, "big") + bytes(30_000))
            stream.writer.write(b"ping")
            assert await far.reader.readexactly(4) == b"ping"
    await friend.heard.until(lambda: len({data[:2] for _, _, data in friend.heard.gossip}) >= 76, 5)
    assert not attack.done()
    assert psutil.Process(pid_of(victim)).memory_info().rss - before < 30 << 20
    assert "deaf" in await attack
    for one in (stream, far):
        one.writer.close()


async def test_memory_and_files_stay_flat_over_many_connections(siege: Siege) -> None:
    """py-libp2p as shipped keeps a task and 12 KB of every connection, and refuses everybody after 250 of them."""
    process = psutil.Process(pid_of(siege.victim))
    await siege.attack("connect_and_go")  # caches fill
    files, before = process.num_fds(), process.memory_info().rss
    *outputs, _ = await asyncio.gather(*(siege.attack("connect_and_go") for _ in range(4)), strangers(siege, 200))
    assert outputs == ["done\n"] * 4, "not every connection was accepted"
    await until_flat(process, files + 2)
    grown = process.memory_info().rss - before
    assert grown < 6 << 20, f"{grown} bytes more after 240 secured connections and 200 random ones"


async def strangers(siege: Siege, count: int) -> None:
    for _ in range(count):
        try:
            sock = siege.stranger()
            sock.sendall(os.urandom(200))
            sock.close()
        except ConnectionError:
            pass
        await asyncio.sleep(0.05)
