"""A relay with limits, and two peers that meet through it: real overlay processes on loopback."""

import asyncio
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.p2p.overlay import (
    Connected,
    DialFailed,
    Disconnected,
    Misbehaved,
    Refused,
    RelayReserved,
    Restarted,
)
from tests.kit.overlays import pid_of
from tests.kit.relayed import ProcessRelayed

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
RELAY_BYTES = 2 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessRelayed]:
    limits = {"relay_max_reservations": 1, "relay_bytes": RELAY_BYTES, "relay_max_circuits_per_peer": 2}
    world = ProcessRelayed(tmp_path_factory.mktemp("relayed"), limits)
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(running: ProcessRelayed) -> AsyncIterator[ProcessRelayed]:
    """``far`` has the only place at the relay."""
    await running.reset()
    await running.place()
    yield running
    assert not [node.peer for node in running.nodes if node.heard.of(Restarted)]


def holds(pid: int, marker: bytes) -> bool:
    """Whether a process has the bytes in its memory."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None:
                continue
            start, end = (int(part, 16) for part in found.groups())
            try:
                memory.seek(start)
                if marker in memory.read(end - start):
                    return True
            except (OSError, ValueError):
                continue
    return False


async def test_peers_meet_through_a_relay_that_sees_nothing_of_what_they_say(world: ProcessRelayed) -> None:
    await world.meet()
    fact = next(fact for fact in world.near.heard.of(Connected) if fact.peer == world.far.peer)
    assert (fact.transport, fact.direction, fact.security) == ("relay", "outbound", "/noise")
    assert f"/p2p/{world.relay.peer}/p2p-circuit/p2p/{world.far.peer}" in fact.address
    theirs = next(fact for fact in world.far.heard.of(Connected) if fact.peer == world.near.peer)
    assert (theirs.transport, theirs.direction) == ("relay", "inbound")
    near, far = await world.near.stream_to(world.far)
    marker = secrets.token_bytes(24)
    near.writer.write(marker * 2000)
    await asyncio.wait_for(far.reader.readexactly(len(marker) * 2000), 60)
    try:
        ends = [holds(pid_of(node), marker) for node in (world.near, world.far)]
    except PermissionError:
        pytest.skip("the memory of other processes cannot be read here")
    assert any(ends), "the marker is not where it must be, so that its absence elsewhere says nothing"
    assert not holds(pid_of(world.relay), marker)


async def test_a_reservation_over_the_limit_is_refused_and_recorded(world: ProcessRelayed) -> None:
    await world.near.overlay.dial(world.relay.peer, world.relay.overlay.addresses, 10)
    refused = await world.relay.heard.until(lambda: world.relay.heard.of(Refused))
    assert (refused[0].peer, refused[0].rule) == (world.near.peer, "relay_max_reservations")
    assert (refused[0].limit, refused[0].value) == ("1", "2")
    assert not world.near.heard.of(RelayReserved)
    assert all("p2p-circuit" not in address for address in world.near.overlay.addresses)


async def test_a_circuit_ends_at_its_limit_of_bytes_and_is_recorded(world: ProcessRelayed) -> None:
    await world.meet()
    near, far = await world.near.stream_to(world.far)
    near.writer.write(b"x" * (RELAY_BYTES + 100_000))
    arrived = 0
    while data := await asyncio.wait_for(far.reader.read(1 << 16), 60):
        arrived += len(data)
    assert RELAY_BYTES // 2 < arrived < RELAY_BYTES
    await world.near.heard.until(lambda: world.near.heard.of(Disconnected))
    refused = await world.relay.heard.until(
        lambda: [fact for fact in world.relay.heard.of(Refused) if fact.rule == "relay_bytes"]
    )
    assert refused[0].peer == world.near.peer
    assert refused[0].limit == str(RELAY_BYTES)
    assert world.near.is_connected(world.relay)
    await world.meet()


async def test_who_has_no_place_at_the_relay_cannot_be_reached_through_it(world: ProcessRelayed) -> None:
    address = f"{world.relay.overlay.addresses[0]}/p2p-circuit"
    await world.near.overlay.dial(world.relay.peer, world.relay.overlay.addresses, 10)
    with pytest.raises(DialFailed, match="NO_RESERVATION"):
        await world.far.overlay.dial(world.near.peer, [address], 10)
    with pytest.raises(DialFailed, match="through itself"):
        await world.near.overlay.dial(world.far.peer, [f"/p2p/{world.far.peer}/p2p-circuit"], 10)


async def test_a_direct_address_goes_before_a_relay(world: ProcessRelayed) -> None:
    circuit_first = sorted(world.far.overlay.addresses, key=lambda address: "p2p-circuit" not in address)
    await world.near.overlay.dial(world.far.peer, circuit_first, 10)
    assert world.near.heard.of(Connected)[-1].transport == "tcp"


async def test_nonsense_is_the_fault_of_who_says_it(world: ProcessRelayed) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.kit.nat_attacker",
        world.relay.overlay.addresses[0],
        "7",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=Path(__file__).parents[2],
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert b"bent " in output, output

    def rules() -> set[str]:
        return {fact.rule for fact in world.relay.heard.of(Misbehaved)}

    assert await world.relay.heard.until(lambda: {"relay", "dcutr"} & rules())
    assert rules() <= {"relay", "dcutr", "autonat", "stream", "handshake"}
    assert world.relay.is_connected(world.far)
    assert not [fact for fact in world.relay.heard.of(Disconnected) if fact.peer == world.far.peer]
    await world.meet()
    near, far = await world.near.stream_to(world.far)
    near.writer.write(b"well")
    assert await asyncio.wait_for(far.reader.readexactly(4), 60) == b"well"
