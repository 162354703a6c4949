"""The overlay in a process of its own: secrets, addresses, deaths and pauses, as they happen."""

import asyncio
import os
import random
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from mesh.config import OverlayConfig
from mesh.errors import ConfigError, ListenError
from mesh.identity import Identity
from mesh.p2p import overlay_process
from mesh.p2p.overlay import Connected, Disconnected, Refused, Restarted, Stream, StreamRefused
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.freezing import freeze, frozen
from tests.kit.overlays import PROTOCOL, Node, ProcessWorld, Recorder, World, pid_of, reset
from tests.kit.processes import is_running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
SILENCE_S = 3.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessWorld]:
    world = ProcessWorld(
        tmp_path_factory.mktemp("overlay"),
        count=2,
        settings=[{"silence_timeout_s": SILENCE_S, "max_streams_per_peer": limit} for limit in (32, 16)],
    )
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(processes: ProcessWorld) -> World:
    await reset(processes)
    return processes


def overlay(directory: Path, listen: str = "/ip4/127.0.0.1/tcp/0", identity: Identity | None = None) -> ProcessOverlay:
    config = OverlayConfig(listen=[listen])
    return ProcessOverlay(
        identity or Identity.generate(), config, directory / "run", directory / "overlay.log", agent="test/1"
    )


@pytest.mark.parametrize("seed", [bytes(32), bytes(range(32)), b"\xff" * 32], ids=["zeros", "counting", "ones"])
async def test_our_peer_id_is_libp2ps(seed: bytes) -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    assert Identity(seed).peer_id == str(ID.from_pubkey(create_new_key_pair(seed).public_key))


async def test_no_secret_shows_in_the_process_list(world: World) -> None:
    node = world.nodes[0]
    seed = node.overlay._identity.seed
    token = node.overlay._link._token
    shown = b"".join(Path(f"/proc/{pid_of(node)}/{what}").read_bytes() for what in ("cmdline", "environ"))
    assert b"mesh.p2p.host" in shown
    for secret in (seed, seed.hex().encode(), token.encode()):
        assert secret not in shown


async def test_the_link_is_for_our_user_and_for_who_knows_the_token(world: World) -> None:
    node = world.nodes[0]
    path = node.overlay._link.path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for greeting in (b'["wrong",1]\n', b'["wrong",0]\n', b"x" * 5000, b"\n", b"\xff\xfe\n"):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(greeting)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    assert not node.heard.streams
    assert not node.heard.facts
    await world.nodes[1].dial(node)


async def test_a_long_path_falls_back_to_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    one = overlay(deep)
    await one.start(Recorder(), protocols=[], topics=[])
    short = one._link.path
    assert len(str(short)) < 104
    assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
    await one.stop()
    assert not short.parent.exists()


async def test_a_port_in_use_is_an_error_that_names_it(tmp_path: Path, world: World) -> None:
    taken = world.nodes[0].overlay.addresses[0].partition("/p2p/")[0]
    with pytest.raises(ListenError, match=taken) as raised:
        await overlay(tmp_path, taken).start(Recorder(), protocols=[], topics=[])
    assert taken.rpartition("/")[2] in raised.value.remedy


async def test_a_port_that_somebody_shares_is_not_joined_in_silence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}"
        with pytest.raises(ListenError, match=address):
            await overlay(tmp_path, address).start(Recorder(), protocols=[], topics=[])


@pytest.mark.parametrize("address", ["/ip4/203.0.113.9/tcp/0", "/ip4/127.0.0.1/udp/1", "tcp://127.0.0.1:1"])
async def test_an_unusable_address_is_an_error_that_names_it(tmp_path: Path, address: str) -> None:
    with pytest.raises((ListenError, ConfigError), match=address) as raised:
        await overlay(tmp_path, address).start(Recorder(), protocols=[], topics=[])
    assert raised.value.remedy


async def test_a_frozen_peer_is_noticed(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    near, _ = await a.stream_to(b)
    began = time.monotonic()
    with frozen(pid_of(b)):
        gone = (await a.heard.until(lambda: a.heard.of(Disconnected)))[0]
        assert "silent" in gone.reason
        assert time.monotonic() - began < SILENCE_S + 10
        assert await near.reader.read() == b""
    await b.heard.until(lambda: b.heard.of(Disconnected))


async def test_who_was_paused_itself_accuses_nobody(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    with frozen(pid_of(a)), frozen(pid_of(b)):
        await asyncio.sleep(SILENCE_S + 1.5)
    await asyncio.sleep(2.5)
    assert not a.heard.of(Disconnected)
    near, far = await a.stream_to(b)
    near.writer.write(b"still here")
    assert await far.reader.readexactly(10) == b"still here"


async def test_an_overlay_process_that_hangs_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = world.nodes
    await a.dial(b)
    monkeypatch.setattr(overlay_process, "_CHECK_TIMEOUT_S", 3.0)
    hung = pid_of(b)
    freeze(hung)
    await b.heard.until(lambda: b.heard.of(Restarted), 60)
    assert not psutil.pid_exists(hung)
    assert {fact.peer for fact in b.heard.of(Disconnected)} == {a.peer}
    await a.heard.until(lambda: a.heard.of(Disconnected))
    await a.dial(b)


async def test_a_reader_that_takes_its_time_loses_nothing(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    near, far = await a.stream_to(b)
    sent = os.urandom(6 << 20)

    async def send() -> None:
        near.writer.write(sent)
        await near.writer.drain()
        near.writer.write_eof()

    sending = asyncio.create_task(send())
    await asyncio.sleep(7)  # py-libp2p gives a stream up when its window stays shut for five
    received = b""
    while data := await asyncio.wait_for(far.reader.read(1 << 20), 60):
        received += data
    await sending
    assert received == sent


async def test_streams_over_the_limit_are_refused_and_closing_makes_room(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    streams: list[Stream] = []
    with pytest.raises(StreamRefused):  # noqa: PT012 - one of them, whichever
        for _ in range(20):
            streams.append(await a.overlay.open_stream(b.peer, PROTOCOL, 10))
    refused = (await b.heard.until(lambda: b.heard.of(Refused)))[0]
    assert (refused.peer, refused.rule, refused.limit, refused.value) == (a.peer, "max_streams_per_peer", "16", "17")
    for stream in (*streams, *b.heard.streams):
        stream.writer.close()
    again = await until_opened(a, b)
    assert again.peer == b.peer
    assert a.is_connected(b)


async def until_opened(a: Node, b: Node) -> Stream:
    async with asyncio.timeout(60):
        while True:
            try:
                return await a.overlay.open_stream(b.peer, PROTOCOL, 5)
            except StreamRefused:
                await asyncio.sleep(0.05)


async def test_we_do_not_open_more_streams_than_a_peer_like_us_takes(world: World) -> None:
    b, a = world.nodes
    await a.dial(b)
    streams = [await a.overlay.open_stream(b.peer, PROTOCOL, 10) for _ in range(14)]
    with pytest.raises(StreamRefused, match="limit: 14"):
        await a.overlay.open_stream(b.peer, PROTOCOL, 10)
    assert not b.heard.of(Refused)
    streams[0].writer.close()
    b.heard.streams[0].writer.close()
    await until_opened(a, b)


async def test_streams_that_are_closed_leave_nothing_behind(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    files = psutil.Process(pid_of(b)).num_fds()
    for _ in range(400):
        near, far = await a.stream_to(b)
        near.writer.close()
        far.writer.close()
        b.heard.streams.clear()
    async with asyncio.timeout(60):
        while psutil.Process(pid_of(b)).num_fds() > files + 2:
            await asyncio.sleep(0.05)
    assert a.is_connected(b)


async def test_a_stream_that_only_we_closed_is_over_for_the_peer_in_the_end(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    near, far = await a.stream_to(b)
    near.writer.close()
    with pytest.raises(ConnectionError):  # noqa: PT012 - some time after the peer has stopped listening
        async with asyncio.timeout(60):
            while True:
                far.writer.write(b"is anybody there?")
                await far.writer.drain()
                await asyncio.sleep(0.1)


async def test_an_answer_that_comes_too_late_is_let_go(world: World) -> None:
    a, b = world.nodes
    await a.dial(b)
    with frozen(pid_of(b)), pytest.raises(StreamRefused):
        await a.overlay.open_stream(b.peer, PROTOCOL, 1.0)
    late = (await b.heard.until(lambda: b.heard.streams))[0]
    assert await asyncio.wait_for(late.reader.read(), 60) == b""
    await a.stream_to(b)


async def test_deadlines_that_pass_do_not_harm_the_connection(world: World) -> None:
    """py-libp2p's own timeouts cancel writes, and a few dozen of those end a connection."""
    b, a = world.nodes
    await a.dial(b)
    hurry = random.Random(1)
    late = 0
    while late < 100:
        for stream in b.heard.streams:
            stream.writer.close()
        b.heard.streams.clear()
        try:
            stream = await a.overlay.open_stream(b.peer, PROTOCOL, hurry.uniform(0.0005, 0.006))
        except StreamRefused as refusal:
            late += "within" in refusal.what
            await asyncio.sleep(hurry.uniform(0, 0.01))
            continue
        stream.writer.write(b"x" * 200)
        stream.writer.close()
    await until_opened(a, b)
    assert not a.heard.of(Disconnected) + b.heard.of(Disconnected)


async def test_nothing_is_left_when_it_is_stopped(tmp_path: Path) -> None:
    one = overlay(tmp_path)
    await one.start(Recorder(), protocols=[], topics=[])
    pid, path = one.pid, one._link.path
    assert pid is not None
    assert path.exists()
    await one.stop()
    assert not psutil.pid_exists(pid)
    assert not path.exists()


NODE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from mesh.config import OverlayConfig
from mesh.identity import Identity
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.overlays import Recorder

async def main():
    there = Path({directory!r})
    config = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0"])
    overlay = ProcessOverlay(Identity.generate(), config, there / "run", there / "log", agent="test/1")
    await overlay.start(Recorder(), protocols=[], topics=[])
    print(overlay.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_it_does_not_outlive_its_node(tmp_path: Path) -> None:
    script = NODE.format(root=str(Path(__file__).parents[2]), directory=str(tmp_path))
    node = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout is not None
        pid = int(await asyncio.to_thread(node.stdout.readline))
        node.kill()
        async with asyncio.timeout(60):
            while is_running(pid):
                await asyncio.sleep(0.02)
    finally:
        node.kill()
        node.communicate()


async def test_a_connection_has_one_name_even_after_a_restart(world: ProcessWorld) -> None:
    a, b = world.nodes
    await a.dial(b)
    await world.crash(b)
    await a.heard.until(lambda: a.heard.of(Disconnected))
    await a.dial(b)
    names = [fact.connection for node in (a, b) for fact in node.heard.of(Connected)]
    assert len(names) == len(set(names)) == 4
