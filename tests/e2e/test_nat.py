"""Peers behind NATs of their own, and a public relay: whole nodes in network namespaces."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.config import OverlayConfig
from mesh.demo.nodes import NodeProcess, until
from mesh.identity import Identity
from mesh.p2p.overlay import HolePunched, PathChanged, PortMapped, ReachabilityChanged, RelayReserved
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.effort import thorough
from tests.kit.igd import map_for_another_machine, port_mapping_router
from tests.kit.nat import Internet, internet
from tests.kit.nodes import MATHS, tables
from tests.kit.overlays import PROTOCOL, Node, Recorder

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
        asking, serving = await asyncio.gather(
            stack.enter_async_context(node_in(net, "a", root, config("a", known))),
            stack.enter_async_context(node_in(net, "b", root, config("b", known, MATHS))),
        )
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


async def told(node: NodeProcess, kind: str) -> dict[str, Any]:
    """The data of the first of this node's own events of a type, once there is one."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found.extend(await facts(node, kind))
        return bool(found)

    await until(there, within=60, what=f"no {kind}")
    return found[0]


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


@thorough
async def test_requests_flow_through_a_relay_and_then_directly_through_both_nats(tmp_path: Path) -> None:
    with internet("a", "b") as net:
        async with a_relay_and_two_homes(net, tmp_path) as (asking, serving):
            outcome = await answered(asking, "What is 17*23?")
            assert (outcome["text"], outcome["peers"]) == ("391", [serving.peer_id])
            for node, other in ((asking, serving), (serving, asking)):
                punch = await told(node, "peer.hole_punched")
                assert (punch["peer"], punch["direct"], punch["error"]) == (other.peer_id, True, "")

                async def projected(node: NodeProcess = node, other: NodeProcess = other) -> bool:
                    return await paths(node, other.peer_id) == [("direct", "tcp")]

                await until(projected, within=60, what="the tables do not show it")
            assert (await answered(asking, "What is 17*24?"))["text"] == "408"
            connected = await facts(asking, "peer.connected")
            (first,) = [fact for fact in connected if fact["peer"] == serving.peer_id]
            assert first["transport"] == "relay"
            reserved = await told(serving, "peer.relay_reserved")
            assert reserved["addresses"][0].endswith(f"/p2p-circuit/p2p/{serving.peer_id}")
            assert (await told(serving, "node.reachability_changed"))["reachability"] == "private"


class OverlayIn(ProcessOverlay):
    """An overlay whose process lives in another network than the test."""

    enter: Sequence[str] = ()

    def _command(self) -> list[str]:
        return [*self.enter, *super()._command()]


def overlay_in(net: Internet, place: str, ip: str, root: Path, **settings: object) -> Node:
    identity = Identity.generate()
    config = OverlayConfig.model_validate({"listen": [f"/ip4/{ip}/tcp/4701"], **settings})
    overlay = OverlayIn(identity, config, root / place, root / f"{place}.log", agent="test/1")
    overlay.enter = net.enter(place)
    return Node(identity.peer_id, overlay, Recorder())


@pytest.mark.parametrize("open_nats", [True, False])
async def test_a_connection_is_direct_when_the_nats_let_it_and_else_stays_relayed(
    tmp_path: Path, open_nats: bool
) -> None:
    with internet("a", "b") as net:
        if not open_nats:
            net.cut_between_homes()
        relay = overlay_in(net, "public", net.PUBLIC_IP, tmp_path, relay="server")
        known = [f"/ip4/{net.PUBLIC_IP}/tcp/4701/p2p/{relay.peer}"]
        near, far = (overlay_in(net, home, net.home_ip(home), tmp_path, relays=known) for home in net.homes)
        nodes = (relay, near, far)
        try:
            await asyncio.gather(*(node.overlay.start(node.heard, protocols=[PROTOCOL], topics=[]) for node in nodes))
            await far.overlay.dial(relay.peer, known, 10)
            (place,) = await far.heard.until(lambda: far.heard.of(RelayReserved))
            await near.overlay.dial(far.peer, place.addresses, 10)
            stream, other_end = await near.stream_to(far)
            (punch,) = await far.heard.until(lambda: far.heard.of(HolePunched), 45)
            assert (punch.peer, punch.direct) == (near.peer, open_nats)
            if open_nats:
                for node in (near, far):
                    (way,) = await node.heard.until(lambda node=node: node.heard.of(PathChanged))
                    assert (way.path, way.transport) == ("direct", "tcp")
                    assert way.address.startswith("/ip4/11.0.0.")
            else:
                assert punch.attempts == 3
                assert "11.0.0." in punch.error
                assert not near.heard.of(PathChanged) + far.heard.of(PathChanged)
            for ends in ((stream, other_end), await near.stream_to(far)):
                ends[0].writer.write(b"still there")
                assert await asyncio.wait_for(ends[1].reader.readexactly(11), 60) == b"still there"
            for node in (near, far):  # whoever came through a punched hole says nothing of it
                (verdict,) = await node.heard.until(lambda node=node: node.heard.of(ReachabilityChanged), 60)
                assert verdict.reachability == "private"
        finally:
            await asyncio.gather(*(node.overlay.stop() for node in nodes))


@pytest.mark.parametrize("taken", [0, 2])
async def test_a_router_passes_a_port_on_and_strangers_reach_who_is_behind_it(tmp_path: Path, taken: int) -> None:
    with internet("a") as net, port_mapping_router(net, "a", tmp_path):
        outer = 4701 + taken
        map_for_another_machine(net, "a", range(4701, outer))
        outside = overlay_in(net, "public", net.PUBLIC_IP, tmp_path)
        inside = overlay_in(net, "a", net.home_ip("a"), tmp_path, upnp=True)
        nodes = (outside, inside)
        try:
            await asyncio.gather(*(node.overlay.start(node.heard, protocols=[PROTOCOL], topics=[]) for node in nodes))
            (mapped,) = await inside.heard.until(lambda: inside.heard.of(PortMapped))
            assert mapped == PortMapped(f"/ip4/{net.router_ip('a')}/tcp/{outer}", gateway="192.168.1.1")
            await outside.overlay.dial(inside.peer, [mapped.address], 10)
            stream, other_end = await outside.stream_to(inside)
            stream.writer.write(b"through the router")
            assert await asyncio.wait_for(other_end.reader.readexactly(18), 60) == b"through the router"
        finally:
            await asyncio.gather(*(node.overlay.stop() for node in nodes))
