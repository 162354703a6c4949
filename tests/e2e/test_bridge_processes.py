"""Journals that share, as real processes over real sockets: a node away and its origin gone, and two that lie."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mesh.clock import SystemClock
from mesh.config import OverlayConfig, load_config
from mesh.demo.nodes import NodeProcess, until
from mesh.events.vocabulary.journal import SignedBatch
from mesh.identity import Identity
from mesh.journals import journal_reader
from mesh.p2p.calls import Handler, InboundCall, Reply
from mesh.p2p.overlay_process import ProcessOverlay
from mesh.p2p.sharing.messages import HEADS, RANGE, TOPIC, encode_announcement, encode_batch, encode_heads
from mesh.p2p.sharing.streams import JournalStreams
from mesh.p2p.streams import our_hello
from mesh.p2p.tasks import TaskOwner
from tests.kit.bridges import feed_of
from tests.kit.cli import mesh
from tests.kit.nodes import config, running_node
from tests.kit.peer_nodes import PeerNode

pytestmark = pytest.mark.e2e

QUICK = "[share]\ninterval_s = 1.0\nurgent_s = 0.3\nsettle_s = 0.3\n"
Story = list[tuple[SignedBatch, list[bytes]]]


async def events_of(node: NodeProcess, origin: str) -> list[dict]:
    """What the node's journal holds of a node."""
    async with journal_reader(node.home, load_config(node.home.root)) as reader:
        records = [record async for batch in reader.read(1) for record in batch]
    return [json.loads(record.payload) for record in records if f".{origin}." in record.subject]


async def shown(node: NodeProcess, origin: str) -> list[dict]:
    """The same, as `mesh events tail` tells it."""
    ran = await mesh(node.home.root, "events", "tail", "--after", "0", "--no-follow", "--json", "--origin", origin)
    assert ran.code == 0, ran.errors
    return [json.loads(line)["event"] for line in ran.output.splitlines()]


async def newest(node: NodeProcess, origin: str) -> int:
    """The highest origin_seq of another node that is here; 0: nothing is."""
    return max((event["originseq"] for event in await events_of(node, origin)), default=0)


async def grown(node: NodeProcess, origin: str, beyond: int) -> None:
    async def is_there() -> bool:
        return await newest(node, origin) > beyond

    await until(is_there, within=60, what=f"{node.name} did not get beyond {beyond}")


@asynccontextmanager
async def rogue(directory: Path, handlers: Mapping[str, Handler], identity: Identity) -> AsyncIterator[PeerNode]:
    """A peer over the real overlay that answers the journal protocol as it likes."""
    settings = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0"], mdns=False, redial_min_s=0.2)
    overlay = ProcessOverlay(identity, settings, directory / "run", directory / "overlay.log", agent="rogue/1")
    node = PeerNode(identity.peer_id, overlay, SystemClock(), settings, mesh="test")
    tasks = TaskOwner()
    hello = our_hello(settings, mesh="test", name="rogue")
    JournalStreams(node.peers, hello, handlers, SystemClock(), tasks, admits=lambda _peer: True)
    node.peers.register(TOPIC, lambda _peer, _data: None)
    await node.start()
    try:
        yield node
    finally:
        await tasks.end()
        await node.stop()


def telling(story: Story) -> dict[str, Handler]:
    async def heads(_call: InboundCall) -> Reply:
        return Reply({}, encode_heads([story[-1][0]]))

    async def pages(_call: InboundCall) -> Reply:
        return Reply({}, b"".join(encode_batch(*batch) for batch in story))

    return {HEADS: heads, RANGE: pages}


async def test_a_node_that_was_away_catches_up_though_the_origin_is_gone_and_liars_are_cut_off(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(running_node(tmp_path, "carrier", config("carrier", extra=QUICK)))
        address = (await carrier.status()).addresses[0]
        origin, away = [
            await stack.enter_async_context(running_node(tmp_path, name, config(name, peers=[address], extra=QUICK)))
            for name in ("origin", "away")
        ]
        await grown(away, origin.peer_id, 0)
        await away.stop()
        before = await newest(away, origin.peer_id)
        await grown(carrier, origin.peer_id, before + 2)
        await origin.kill()
        await away.start()
        expected = await events_of(carrier, origin.peer_id)
        await grown(away, origin.peer_id, expected[-1]["originseq"] - 1)
        assert await events_of(away, origin.peer_id) == expected == await shown(away, origin.peer_id[-8:])
        received = [
            event["data"] for event in await events_of(away, away.peer_id) if event["type"] == "mesh.journal.received"
        ]
        assert carrier.peer_id in {fact["carrier"] for fact in received if fact["batch"]["origin"] == origin.peer_id}
        await lied_to(away, tmp_path)
        await away.stop()
        for command, word in (("audit verify", "whole"), ("digest --check", "all tables")):
            ran = await mesh(away.home.root, *command.split())
            assert ran.code == 0, ran.output + ran.errors
            assert word in ran.output


async def lied_to(node: NodeProcess, directory: Path) -> None:
    address = (await node.status()).addresses[0]
    forger, liar, maker = Identity.generate(), Identity.generate(), Identity.generate()
    forged = [(batch, [p.replace(b"91.5", b"10.0") for p in payloads]) for batch, payloads in feed_of(maker, 2)]
    other_story = encode_announcement(feed_of(liar, 2, mark=1)[0][0], "00" * 32)
    async with (
        rogue(directory / "forger", telling(forged), forger) as one,
        rogue(directory / "liar", telling(feed_of(liar, 2)), liar) as two,
    ):
        for peer in (one, two):
            peer.peers.learn(node.peer_id, [address], "static")

        async def liar_is_believed() -> bool:
            return await newest(node, liar.peer_id) == 2

        await until(liar_is_believed, within=60, what="the first story was not taken")

        async def found() -> bool:
            await two.peers.gossip(TOPIC, other_story)
            kinds = {(event["type"], event["data"].get("peer")) for event in await events_of(node, node.peer_id)}
            return {
                ("mesh.journal.equivocation_found", liar.peer_id),
                ("mesh.peer.misbehaved", liar.peer_id),
                ("mesh.peer.misbehaved", forger.peer_id),
            } <= kinds

        await until(found, within=60, what="the lies were not found")
        assert await events_of(node, maker.peer_id) == []
        assert await events_of(node, forger.peer_id) == []

        async def gone() -> bool:
            return not {forger.peer_id, liar.peer_id} & set((await node.status()).connected)

        await until(gone, within=60, what="the liars are still connected")
