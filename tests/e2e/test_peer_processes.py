"""Peers over the real overlay: frozen, killed and restarted processes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from mesh.p2p.calls import CallFailed
from tests.kit.freezing import freeze, thaw
from tests.kit.peer_child import real_node
from tests.kit.peer_nodes import until
from tests.kit.waiting import counted_pauses

pytestmark = pytest.mark.e2e


class Child:
    def __init__(self, process, peer: str, address: str, overlay: int) -> None:
        self.process, self.peer, self.address, self.overlay = process, peer, address, overlay

    def signal(self, number: int) -> None:
        """To both of its processes."""
        for pid in (self.process.pid, self.overlay):
            os.kill(pid, number)

    async def leave(self) -> list[str]:
        """End it in order; returns the types of the facts that it recorded."""
        self.process.stdin.close()
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), 60))


@asynccontextmanager
async def child(directory) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kit.peer_child", str(directory),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        yield Child(process, line["peer"], line["address"], line["overlay"])
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
        await process.wait()
        process._transport.close()


@asynccontextmanager
async def connected(tmp_path):
    """A node here, a child, and a usable stream to it."""
    node, overlay = real_node(tmp_path / "here")
    await node.start()
    try:
        async with child(tmp_path / "child") as other:
            node.peers.learn(other.peer, [other.address], "mdns")
            await until(lambda: other.peer in node.peers.connected(), 60)
            yield node, overlay, other
    finally:
        await node.stop()


async def test_calls_and_an_orderly_end(tmp_path):
    async with connected(tmp_path) as (node, _, other):
        for size in (0, 1024, 100_000, 3_000_000):
            body = os.urandom(size)
            reply = await node.peers.call(other.peer, "echo", {"size": size}, body, timeout=30)
            assert (reply.header, reply.body) == ({"size": size}, body)
        replies = await asyncio.gather(
            *(node.peers.call(other.peer, "echo", {"n": n}, b"%d" % n * 500, timeout=30) for n in range(200))
        )
        assert [reply.header["n"] for reply in replies] == list(range(200))
        await until(lambda: node.peers.stats(other.peer).latency_ms > 0)
        theirs = await other.leave()
        assert "peer.misbehaved" not in theirs + node.kinds()
        await until(lambda: node.of("peer.disconnected", other.peer), 60)
        assert node.of("peer.connected", other.peer)[0].security == "/noise"


async def test_a_frozen_node_is_found_within_five_seconds_accuses_nobody_and_rejoins(tmp_path):
    async with connected(tmp_path) as (node, _, other):
        await asyncio.sleep(3)
        call = asyncio.create_task(node.peers.call(other.peer, "hang", {}, timeout=60))
        await asyncio.sleep(0.5)
        known, frozen = len(node.facts), time.monotonic()
        async with counted_pauses() as pauses:
            other.signal(signal.SIGSTOP)
            with pytest.raises(CallFailed) as caught:
                await call
        assert caught.value.kind == "disconnected"
        assert time.monotonic() - frozen - pauses.seconds <= 5
        told = [kind for kind in node.kinds()[known:] if kind in ("peer.suspected", "peer.confirmed_down")]
        assert told == ["peer.suspected", "peer.confirmed_down"]
        assert node.peers.connected() == frozenset()
        await asyncio.sleep(5)
        other.signal(signal.SIGCONT)
        await until(lambda: other.peer in node.peers.connected(), 60)
        await until(lambda: node.of("peer.rejoined", other.peer), 60)
        assert (await node.peers.call(other.peer, "echo", {}, b"back", timeout=30)).body == b"back"
        theirs = await other.leave()
        assert "peer.misbehaved" not in theirs
        assert "peer.confirmed_down" not in theirs


async def test_while_our_own_overlay_is_frozen_nobody_is_accused(tmp_path):
    async with connected(tmp_path) as (node, overlay, other):
        await asyncio.sleep(1)
        freeze(overlay.pid)
        await asyncio.sleep(8)  # at the node's other end silence is confirmed as death by now, slow as it may be
        thaw(overlay.pid)
        await until(lambda: node.of("peer.disconnected", other.peer), 60)
        await until(lambda: other.peer in node.peers.connected(), 60)
        assert (await node.peers.call(other.peer, "echo", {}, b"back", timeout=30)).body == b"back"
        assert not node.of("peer.suspected")
        assert "peer.confirmed_down" in await other.leave()


async def test_a_killed_node_fails_its_calls_at_once(tmp_path):
    async with connected(tmp_path) as (node, _, other):
        call = asyncio.create_task(node.peers.call(other.peer, "hang", {}, timeout=60))
        await asyncio.sleep(0.5)
        killed = time.monotonic()
        async with counted_pauses() as pauses:
            other.signal(signal.SIGKILL)
            with pytest.raises(CallFailed) as caught:
                await call
            assert caught.value.kind == "disconnected"
            assert time.monotonic() - killed - pauses.seconds < 2
            await until(lambda: node.of("peer.confirmed_down", other.peer), 60)
        assert time.monotonic() - killed - pauses.seconds <= 5.5


async def test_after_the_overlay_is_killed_the_peers_are_back_and_the_journal_says_so(tmp_path):
    async with connected(tmp_path) as (node, overlay, other):
        call = asyncio.create_task(node.peers.call(other.peer, "hang", {}, timeout=60))
        await asyncio.sleep(0.5)
        os.kill(overlay.pid, signal.SIGKILL)
        with pytest.raises(CallFailed) as caught:
            await call
        assert caught.value.kind == "disconnected"
        await until(lambda: node.of("node.process_restarted"), 60)
        await until(lambda: other.peer in node.peers.connected(), 60)
        assert (await node.peers.call(other.peer, "echo", {}, b"back", timeout=30)).body == b"back"
