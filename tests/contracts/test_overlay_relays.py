"""What every overlay must do where two peers meet through a third."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
import pytest_asyncio

from mesh.p2p.overlay import Connected, DialFailed, Disconnected, RelayLost, RelayReserved
from tests.kit.overlays import MemoryWorld, Node
from tests.kit.relayed import ProcessRelayed

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Relayed(Protocol):
    """``far`` has the relay among its own, and is not connected to it yet."""

    relay: Node
    near: Node
    far: Node


class MemoryRelayed:
    def __init__(self) -> None:
        self._world = MemoryWorld()
        self.relay, self.near, self.far = self._world.nodes
        self.far.overlay.relays = (self.relay.peer,)  # type: ignore[attr-defined]

    async def start(self) -> None:
        await self._world.start()

    async def stop(self) -> None:
        await self._world.stop()


class RelayContract:
    async def test_a_place_at_a_relay_is_an_address_as_long_as_there_is_a_connection(self, world: Relayed) -> None:
        far, relay = world.far, world.relay
        await far.overlay.dial(relay.peer, relay.overlay.addresses, 10)
        (place,) = await far.heard.until(lambda: far.heard.of(RelayReserved))
        assert place.relay == relay.peer
        assert place.addresses[0].endswith(f"/p2p/{relay.peer}/p2p-circuit/p2p/{far.peer}")
        assert set(place.addresses) <= set(far.overlay.addresses)
        await far.overlay.disconnect(relay.peer, "enough")
        await far.heard.until(lambda: [fact.relay for fact in far.heard.of(RelayLost)] == [relay.peer])
        assert not set(place.addresses) & set(far.overlay.addresses)

    async def test_peers_meet_through_a_relay_and_it_is_told(self, world: Relayed) -> None:
        near, far, relay = world.near, world.far, world.relay
        await far.overlay.dial(relay.peer, relay.overlay.addresses, 10)
        (place,) = await far.heard.until(lambda: far.heard.of(RelayReserved))
        await near.overlay.dial(far.peer, place.addresses, 10)
        await far.heard.until(lambda: far.is_connected(near))
        for node, other in ((near, far), (far, near)):
            (fact,) = [fact for fact in node.heard.of(Connected) if fact.peer == other.peer]
            assert fact.transport == "relay"
            assert f"/p2p/{relay.peer}/p2p-circuit" in fact.address
        stream, other_end = await near.stream_to(far)
        stream.writer.write(b"through")
        assert await asyncio.wait_for(other_end.reader.readexactly(7), 60) == b"through"
        await near.overlay.disconnect(far.peer, "enough")
        await far.heard.until(lambda: near.peer in [fact.peer for fact in far.heard.of(Disconnected)])

    async def test_who_has_no_place_is_not_reached(self, world: Relayed) -> None:
        near, far, relay = world.near, world.far, world.relay
        address = f"{relay.overlay.addresses[0]}/p2p-circuit/p2p/{far.peer}"
        with pytest.raises(DialFailed, match="NO_RESERVATION"):
            await near.overlay.dial(far.peer, [address], 10)


class TestMemoryRelays(RelayContract):
    @pytest_asyncio.fixture(loop_scope="module")
    async def world(self) -> AsyncIterator[Relayed]:
        world = MemoryRelayed()
        await world.start()
        yield world
        await world.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessRelayed]:
    world = ProcessRelayed(tmp_path_factory.mktemp("relayed"))
    await world.start()
    yield world
    await world.stop()


@pytest.mark.e2e
class TestProcessRelays(RelayContract):
    @pytest_asyncio.fixture(loop_scope="module")
    async def world(self, processes: ProcessRelayed) -> AsyncIterator[Relayed]:
        yield processes
        await processes.reset()
