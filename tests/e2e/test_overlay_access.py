"""Block and allow lists and the limits of subnets, over real sockets: what a stranger sees, and what is recorded."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.p2p.access import Access
from mesh.p2p.overlay import Connected, DialFailed, Disconnected, Refused
from tests.kit.overlays import Node, ProcessWorld, reset

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
PER_SUBNET = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessWorld]:
    settings = {"max_inbound_per_subnet": PER_SUBNET, "own_networks": []}
    world = ProcessWorld(tmp_path_factory.mktemp("access"), count=2, settings=[settings])
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared: ProcessWorld) -> AsyncIterator[ProcessWorld]:
    await reset(shared)
    yield shared
    for node in shared.nodes:
        await node.overlay.restrict(Access())


def visit(node: Node, come_from: str) -> socket.socket:
    sock = socket.socket()
    sock.bind((come_from, 0))
    sock.settimeout(30)
    sock.connect(("127.0.0.1", int(node.overlay.addresses[0].split("/")[4])))
    return sock


async def received_until_closed(sock: socket.socket) -> bytes:
    def read() -> bytes:
        try:
            return b"".join(iter(lambda: sock.recv(4096), b""))
        except ConnectionError:
            return b""

    try:
        return await asyncio.to_thread(read)
    finally:
        sock.close()


async def refused(node: Node, come_from: str) -> Refused:
    return await node.heard.until(lambda: next((f for f in node.heard.of(Refused) if come_from in f.address), None))


async def test_who_comes_from_a_blocked_network_gets_not_one_byte(world: ProcessWorld) -> None:
    us, friend = world.nodes
    await us.overlay.restrict(Access(block=("127.0.9.0/24",)))
    assert await received_until_closed(visit(us, "127.0.9.5")) == b""
    fact = await refused(us, "127.0.9.5")
    assert (fact.peer, fact.rule, fact.limit, fact.value) == ("", "blocked_address", "127.0.9.0/24", "127.0.9.5")
    await friend.dial(us)


async def test_who_is_connected_from_a_network_is_cut_off_when_it_is_blocked(world: ProcessWorld) -> None:
    us, friend = world.nodes
    await friend.dial(us)
    await us.overlay.restrict(Access(block=("127.0.0.1/32",)))
    assert us.heard.of(Disconnected)[0].reason == "127.0.0.1 is blocked"
    await friend.heard.until(lambda: not friend.is_connected(us))
    with pytest.raises(DialFailed, match=r"127\.0\.0\.1 is blocked"):
        await us.overlay.dial(friend.peer, friend.overlay.addresses, 5)
    with pytest.raises(DialFailed):
        await friend.overlay.dial(us.peer, us.overlay.addresses, 5)
    assert not friend.heard.of(Connected)[1:]


async def test_with_an_allow_list_of_networks_others_get_not_one_byte(world: ProcessWorld) -> None:
    us, friend = world.nodes
    await us.overlay.restrict(Access(allow=("127.0.0.0/24",)))
    assert await received_until_closed(visit(us, "127.0.10.1")) == b""
    assert (await refused(us, "127.0.10.1")).rule == "not_allowed"
    await friend.dial(us)


async def test_a_subnet_has_its_share_and_gets_it_back(world: ProcessWorld) -> None:
    us, _ = world.nodes
    held = [visit(us, f"127.0.20.{host}") for host in range(1, PER_SUBNET + 1)]
    assert await received_until_closed(visit(us, "127.0.20.77")) == b""
    fact = await refused(us, "127.0.20.77")
    assert (fact.rule, fact.limit) == ("max_inbound_per_subnet", f"{PER_SUBNET} of one subnet")
    assert fact.value == f"{PER_SUBNET + 1} of 127.0.20.0/24"
    elsewhere = visit(us, "127.0.21.1")
    for sock in (*held, elsewhere):
        sock.close()
    await us.heard.until(lambda: len(us.heard.facts) >= 1 + len(held) + 1)  # each is recorded as a broken handshake
    us.heard.clear()
    again = visit(us, "127.0.20.78")
    again.close()
    await us.heard.until(lambda: us.heard.facts)
    assert not us.heard.of(Refused)


async def test_thousands_of_rules_are_in_force_from_the_first_connection_on(world: ProcessWorld) -> None:
    us, friend = world.nodes
    many = tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(9_998))
    await us.overlay.restrict(Access(block=(*many, "127.0.30.0/24")))
    await world.crash(us)
    assert await received_until_closed(visit(us, "127.0.30.1")) == b""
    assert (await refused(us, "127.0.30.1")).rule == "blocked_address"
    await friend.dial(us)
