"""A peer that leaves says so, and is not taken for one that died."""

import asyncio

import pytest

from mesh.p2p import messages
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.peer_nodes import nodes, until

pytestmark = pytest.mark.looptime


def last_words(node, peer: str) -> list[str]:
    return [fact.type for fact in node.facts if getattr(fact, "peer", "") == peer][-2:]


async def test_an_orderly_stop_is_a_farewell_and_a_crash_is_not():
    network = MemoryNetwork(latency_s=0.01)
    async with nodes("a", "b", "c", network=network) as (_, made):
        began = asyncio.get_running_loop().time()
        await made["b"].peers.stop()
        assert asyncio.get_running_loop().time() - began < 0.5  # those who stay hang up at once
        network.kill("c")
        a = made["a"]
        await until(lambda: not a.peers.connected())
        assert last_words(a, "b") == ["peer.left", "peer.disconnected"]
        assert a.of("peer.left", "b")[0].reason == "this node is stopping"
        assert not a.of("peer.left", "c")
        await asyncio.sleep(30)
        assert not a.of("peer.confirmed_down", "b")
        assert not a.of("peer.suspected", "b")
        assert a.of("peer.confirmed_down", "c")


async def test_who_comes_back_after_a_farewell_is_dialled_and_can_leave_again():
    async with nodes("a", "b") as (_, made):
        a, b = made.values()
        for times in (1, 2):
            await b.peers.stop()
            await until(lambda: not a.peers.connected())
            assert len(a.of("peer.left", "b")) == times
            await b.peers.start()
            await until(lambda: a.peers.connected() == {"b"}, within=30)


async def test_names_are_told_once_and_hold_no_control_characters():
    async with nodes("a", "b") as (_, made):
        a, b = made.values()
        await asyncio.sleep(20)
        assert [(fact.name, fact.role) for fact in a.of("peer.greeted", "b")] == [("node b", "node")]
        stream = await b.overlay.open_stream("a", messages.PROTOCOL, 5)
        hello = messages.Hello.model_validate(
            {
                "versions": [1],
                "mesh": "lab",
                "name": "\x1b[2Jroot",
                "limits": {"max_frame_bytes": 4096, "max_body_bytes": 0, "requests": 1, "window_bytes": 1024},
            }
        )
        stream.writer.write(messages.hello(hello))
        await until(lambda: len(a.of("peer.greeted", "b")) == 2)
        assert a.of("peer.greeted", "b")[-1].name == "\ufffd[2Jroot"
        assert a.peers.name_of("b") == "\x1b[2Jroot"
