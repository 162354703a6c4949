"""mDNS over the real loopback interface, with real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.identity import Identity
from mesh.p2p.mdns import MdnsDiscovery, MdnsUnavailable

pytestmark = pytest.mark.e2e
WAIT_S = 60.0


class Announcer:
    def __init__(self, mesh: str, port: int) -> None:
        self.peer = Identity.generate().peer_id
        self.addresses = (f"/ip4/127.0.0.1/tcp/{port}/p2p/{self.peer}",)
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self._something = asyncio.Event()
        self.discovery = MdnsDiscovery(self.peer, mesh, self.addresses, [], self._on_found)

    def _on_found(self, peer: str, addresses: tuple[str, ...]) -> None:
        self.found.append((peer, addresses))
        self._something.set()

    async def until_found(self, peer: str, addresses: tuple[str, ...], times: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.found.count((peer, addresses)) < times:
                self._something.clear()
                await self._something.wait()


@pytest.fixture
async def announcers(request: pytest.FixtureRequest) -> AsyncIterator[list[Announcer]]:
    # Tests that run at the same time share the loopback interface: each has a mesh of its own.
    mesh = f"test-{Identity.generate().peer_id[-12:].lower()}"
    started = [Announcer(mesh, 4001), Announcer(mesh, 4002), Announcer(mesh + "-other", 4003)]
    for one in started:
        await one.discovery.start()
    yield started
    for one in started:
        await one.discovery.stop()


async def test_nodes_of_one_mesh_find_each_other_with_their_addresses(announcers: list[Announcer]) -> None:
    a, b, _ = announcers
    await a.until_found(b.peer, b.addresses)
    await b.until_found(a.peer, a.addresses)
    assert a.found == [(b.peer, b.addresses)]


async def test_nodes_of_another_mesh_are_not_reported(announcers: list[Announcer]) -> None:
    a, b, other = announcers
    await a.until_found(b.peer, b.addresses)
    await b.until_found(a.peer, a.addresses)
    assert not other.found
    assert {peer for peer, _ in a.found + b.found} == {a.peer, b.peer}


async def test_a_change_of_address_is_told(announcers: list[Announcer]) -> None:
    a, b, _ = announcers
    await b.until_found(a.peer, a.addresses)
    moved = (f"/ip4/127.0.0.1/tcp/5001/p2p/{a.peer}",)
    await a.discovery.announce(moved)
    await b.until_found(a.peer, moved)


async def test_who_stops_is_forgotten(announcers: list[Announcer]) -> None:
    a, b, _ = announcers
    await a.until_found(b.peer, b.addresses)
    await b.discovery.stop()
    async with asyncio.timeout(WAIT_S):
        while b.peer in {announcement.peer for announcement in a.discovery._found.values()}:
            await asyncio.sleep(0.02)


async def test_who_comes_back_is_found_again(announcers: list[Announcer]) -> None:
    a, b, _ = announcers
    await b.until_found(a.peer, a.addresses)
    await a.discovery.stop()
    await a.discovery.start()
    await b.until_found(a.peer, a.addresses, times=2)


async def test_where_multicast_does_not_work_it_says_so() -> None:
    peer = Identity.generate().peer_id
    discovery = MdnsDiscovery(peer, "m", [f"/ip4/127.0.0.1/tcp/1/p2p/{peer}"], ["203.0.113.9"], lambda *_: None)
    with pytest.raises(MdnsUnavailable, match=r"203\.0\.113\.9"):
        await discovery.start()
    await discovery.stop()
