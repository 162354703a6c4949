"""Finding each other over real sockets and processes: through the DHT, and after a restart."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.config import OverlayConfig
from mesh.demo.nodes import NodeProcess, until
from mesh.events.vocabulary.experts import ExpertsSought
from mesh.events.vocabulary.network import PeerDiscovered
from mesh.experts.queries import Query
from mesh.p2p.host.kad_messages import GET_PROVIDERS, Kad, _size, decode, encode
from mesh.p2p.host.kad_table import key_of
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.asking import identity, says
from tests.kit.nodes import acquainted, config, running_node, tables
from tests.kit.whole_nodes import WholeNode, expert

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[list[WholeNode]]:
    """Five nodes, each with an overlay process; each knows only the one before. The last serves something."""
    settings = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0"], exchange=False, mdns=False, redial_min_s=0.2)
    first = secrets.randbelow(1 << 20)
    nodes = [
        WholeNode(
            MemoryNetwork(),
            first + number,
            {"seer": says("the stars say yes")} if number == 4 else {},
            configs=[expert("seer", "astrology")] if number == 4 else [],
            overlay=settings,
            over=ProcessOverlay(
                identity(first + number), settings, tmp_path / f"run{number}", tmp_path / f"{number}.log", agent="t/1"
            ),
        )
        for number in range(5)
    ]
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


async def test_an_expert_four_hops_away_is_found_and_asked(line: list[WholeNode]) -> None:
    seeker, seer = line[0], line[4]
    await connect(line[3], seer)

    await until(lambda: has_record(line[3], seer), within=60, what="the domain was not published")
    for near, far in itertools.pairwise(line[:4]):
        await connect(near, far)
    assert seeker.peers.connected() == {line[1].id}  # nobody has walked but the seer, when there was nowhere to go
    outcome = await seeker.requests.ask(Query(content="will it rain?", domain="astrology", timeout_s=30))
    assert (outcome.text, outcome.peers) == ("the stars say yes", (seer.id,))
    facts = [event.fact for event in await seeker.events()]
    (sought,) = [fact for fact in facts if isinstance(fact, ExpertsSought)]
    assert (sought.providers, sought.dialled, sought.served) == (1, 1, True)
    assert [f.by for f in facts if isinstance(f, PeerDiscovered) and f.source == "dht"] == [line[3].id]


async def has_record(holder: WholeNode, provider: WholeNode) -> bool:
    """Whether it holds that the domain is provided; a lookup of its own would ask the provider itself as well."""
    name = provider.peers._in_mesh("domain/astrology")
    stream = await provider.peers._overlay.open_stream(holder.id, provider.peers._dht, 5)
    stream.writer.write(encode(Kad(GET_PROVIDERS, key_of(name))))
    stream.writer.write_eof()
    said = bytearray(await stream.reader.read())
    stream.writer.close()
    size = _size(said)
    assert size is not None, "it did not answer"
    return provider.id in decode(bytes(said[size[0] :])).providers


async def connect(near: WholeNode, far: WholeNode) -> None:
    near.meet(far)

    async def connected() -> bool:
        return far.id in near.peers.connected() and near.id in far.peers.connected()

    await until(connected, within=60, what=f"{near.id} and {far.id} did not connect")


async def test_a_node_comes_back_to_whom_it_knew_and_its_leaving_raised_no_alert(tmp_path: Path) -> None:
    async with running_node(tmp_path, "stays", config("stays")) as stays:
        address = (await stays.status()).addresses[0]
        async with running_node(tmp_path, "leaves", config("leaves", peers=[address])) as leaves:

            async def together() -> bool:
                return bool((await stays.status()).connected and (await leaves.status()).connected)

            await until(together, within=60, what="the two did not connect")
            await until(partial(acquainted, stays, leaves), within=60, what="its loss would not be an alert yet")
            await leaves.stop()
            async with tables(stays) as found:

                async def has_left() -> bool:
                    return [(row["name"], row["state"]) for row in await found.peers()] == [("leaves", "left")]

                await until(has_left, within=60, what="the goodbye was not recorded")
            (leaves.home.root / "config.toml").write_text(config("leaves"))  # nobody is named any more
            await leaves.start()
            await until(lambda: _is_connected(leaves), within=60, what="it did not come back")
            async with tables(leaves) as found:

                async def from_the_store() -> bool:
                    return [(r["name"], r["source"], r["state"]) for r in await found.peers()] == [
                        ("stays", "store", "connected")
                    ]

                await until(from_the_store, within=60, what="it did not come back from its own journal")
            async with tables(stays) as found:
                assert not [row for row in await found.alerts() if row["rule"] == "peer_lost" and row["raised_at"]]


async def _is_connected(node: NodeProcess) -> bool:
    return bool((await node.status()).connected)
