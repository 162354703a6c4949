"""Peers behind NATs of their own, and a public relay: whole nodes in network namespaces."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.demo.nodes import NodeProcess, until
from tests.kit.nat import Internet, internet
from tests.kit.nodes import MATHS, tables

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]


def config(name: str, extra: str, *experts: str) -> str:
    return (
        f'[node]\nname = "{name}"\nmesh = "test"\n'
        '[overlay]\nlisten = ["/ip4/0.0.0.0/tcp/4701"]\nmdns = false\nredial_min_s = 0.2\nredial_max_s = 2.0\n'
        f"offer_interval_s = 1.0\n{extra}\n[health]\ninterval_s = 5.0\n" + "".join(experts)
    )


@asynccontextmanager
async def node_in(net: Internet, place: str, root: Path, text: str) -> AsyncIterator[NodeProcess]:
    node = NodeProcess(place, root, net.enter(place))
    node.prepare(text)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@asynccontextmanager
async def a_relay_and_two_homes(net: Internet, root: Path) -> AsyncIterator[tuple[NodeProcess, NodeProcess]]:
    """A node that asks and one with an expert, each behind a NAT; all that they know is the address of a relay."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(node_in(net, "public", root, config("public", 'relay = "server"')))
        known = f'upnp = true\nrelays = ["/ip4/{net.PUBLIC_IP}/tcp/4701/p2p/{relay.peer_id}"]'
        serving = await stack.enter_async_context(node_in(net, "b", root, config("b", known, MATHS)))
        asking = await stack.enter_async_context(node_in(net, "a", root, config("a", known)))
        yield asking, serving


async def answered(node: NodeProcess, question: str) -> dict[str, Any]:
    """What ``mesh ask`` says, once there is somebody who can answer."""
    outcome: dict[str, Any] = {}

    async def ask() -> bool:
        code, output, _ = await node.command("ask", "--json", "--domain", "mathematics", question)
        if code == 0:
            outcome.update(json.loads(output))
        return code == 0

    await until(ask, within=60, what="nobody answered")
    return outcome


async def facts(node: NodeProcess, kind: str) -> list[dict[str, Any]]:
    """The data of this node's own events of a type."""
    code, output, errors = await node.command("events", "tail", "--json", "--no-follow", "--after", "0", "--only", kind)
    assert code == 0, errors
    events = [json.loads(line)["event"] for line in output.splitlines()]
    return [event["data"] for event in events if event["source"] == f"/mesh/{node.peer_id}"]


async def paths(node: NodeProcess, peer: str) -> list[tuple[str, str]]:
    async with tables(node) as found:
        _, rows = await found.sql(f"SELECT path, transport FROM connections WHERE peer = '{peer}'")
    return [(path, transport) for path, transport in rows]


async def test_requests_flow_through_a_relay_and_then_directly_through_both_nats(tmp_path: Path) -> None:
    with internet("a", "b") as net:
        async with a_relay_and_two_homes(net, tmp_path) as (asking, serving):
            outcome = await answered(asking, "What is 17*23?")
            assert (outcome["text"], outcome["peers"]) == ("391", [serving.peer_id])
            for node, other in ((asking, serving), (serving, asking)):

                async def punched(node: NodeProcess = node) -> bool:
                    return bool(await facts(node, "peer.hole_punched"))

                await until(punched, within=40, what="no hole was punched")
                (punch,) = await facts(node, "peer.hole_punched")
                assert (punch["peer"], punch["direct"], punch["error"]) == (other.peer_id, True, "")
                (way,) = [fact for fact in await facts(node, "peer.path_changed") if fact["peer"] == other.peer_id]
                assert (way["path"], way["transport"]) == ("direct", "tcp")
                assert "p2p-circuit" not in way["address"]

                async def projected(node: NodeProcess = node, other: NodeProcess = other) -> bool:
                    return await paths(node, other.peer_id) == [("direct", "tcp")]

                await until(projected, within=30, what="the tables do not show it")
            assert (await answered(asking, "What is 17*24?"))["text"] == "408"
            connected = await facts(asking, "peer.connected")
            (first,) = [fact for fact in connected if fact["peer"] == serving.peer_id]
            assert first["transport"] == "relay"
            reserved = await facts(serving, "peer.relay_reserved")
            assert reserved[0]["addresses"][0].endswith(f"/p2p-circuit/p2p/{serving.peer_id}")

            async def private() -> bool:
                said = await facts(serving, "node.reachability_changed")
                return bool(said) and said[-1]["reachability"] == "private"

            await until(private, within=40, what="it did not learn that it cannot be reached")


async def test_where_no_hole_can_be_punched_requests_go_on_through_the_relay(tmp_path: Path) -> None:
    with internet("a", "b") as net:
        net.cut_between_homes()
        async with a_relay_and_two_homes(net, tmp_path) as (asking, serving):
            assert (await answered(asking, "What is 17*23?"))["text"] == "391"

            async def tried() -> bool:
                return bool(await facts(serving, "peer.hole_punched"))

            await until(tried, within=60, what="no hole was tried")
            (punch,) = await facts(serving, "peer.hole_punched")
            assert (punch["direct"], punch["attempts"]) == (False, 3)
            assert "11.0.0." in punch["error"]
            assert (await answered(asking, "What is 17*24?"))["text"] == "408"
            assert await paths(asking, serving.peer_id) == [("relayed", "relay")]
