"""What every overlay's DHT must do, whichever technology is behind it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.p2p.overlay import Provider
from tests.kit.overlays import MemoryWorld, Node, ProcessWorld, World

pytestmark = pytest.mark.asyncio(loop_scope="class")


async def found(node: Node, name: str, provider: Node | None) -> Provider | None:
    """What the DHT says, once it names ``provider``; None for one that nobody provides."""
    async with asyncio.timeout(60):
        while True:
            told = {one.peer: one for one in await node.overlay.find_providers(name, 10)}
            if provider is None:
                assert not told
                return None
            if provider.peer in told:
                return told[provider.peer]
            await asyncio.sleep(0.1)


class DhtContract:
    async def test_who_provides_something_is_found_through_others(self, world: World) -> None:
        a, b, c = world.nodes
        await a.dial(b)
        await b.dial(c)
        await c.overlay.provide(["thing", "other thing"])
        provider = await found(a, "thing", c)
        assert provider.by in {b.peer, c.peer}
        assert set(provider.addresses) & set(c.overlay.addresses)
        assert await a.overlay.find_providers("nothing", 5) == ()
        await found(c, "nothing", None)
        await a.overlay.dial(c.peer, provider.addresses, 10)

    async def test_providers_are_found_again_after_a_crash(self, world: World) -> None:
        a, b, c = world.nodes
        name = f"thing of {c.peer}"
        await c.overlay.provide([name])
        await world.crash(c)
        await b.heard.until(lambda: not b.is_connected(c))  # or its dial would find it connected
        await b.dial(c)
        await a.dial(b)
        await found(a, name, c)


class TestMemoryDht(DhtContract):
    @pytest_asyncio.fixture(loop_scope="class")
    async def world(self) -> AsyncIterator[World]:
        world = MemoryWorld()
        await world.start()
        yield world
        await world.stop()


@pytest.mark.e2e
class TestProcessDht(DhtContract):
    """The tests have the same three processes."""

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def world(cls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
        world = ProcessWorld(tmp_path_factory.mktemp("dht"))
        await world.start()
        yield world
        await world.stop()
