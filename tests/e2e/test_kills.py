"""kill -9 of each process of a node, mid-load: nothing acknowledged is lost, every request has one outcome."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess, until
from mesh.errors import NodeUnreachable
from mesh.projections.queries import Queries
from tests.kit.nodes import config, connected, offered, python_expert, running_node, tables

pytestmark = pytest.mark.e2e

PATIENT = python_expert("patient", "tests.kit.slow_experts:patient", concurrency=64)
HELD = python_expert("held", "tests.kit.slow_experts:held")
OUTCOMES = ("completed", "failed", "cancelled", "interrupted")


async def ask_for_ever(node: NodeProcess, answered: list[str], stop: asyncio.Event) -> None:
    """Ask one request after another and keep the ids of those that were answered."""
    number = 0
    while not stop.is_set():
        try:
            async with Mesh.connect(node.home.root) as mesh:
                while not stop.is_set():
                    number += 1
                    outcome = await mesh.ask(f"20 {number}", domain="language", delivery="whole", timeout=20)
                    assert outcome.text == str(number)
                    answered.append(outcome.request)
        except (RequestFailed, NodeUnreachable):
            await asyncio.sleep(0.05)  # its own pace: the broker or the node may be away for a moment


async def kill_under_load(node: NodeProcess, process: str) -> list[str]:
    """Kill one child under load, wait until it is back and requests are answered again; returns answered ids."""
    answered: list[str] = []
    stop = asyncio.Event()
    askers = [asyncio.create_task(ask_for_ever(node, answered, stop)) for _ in range(4)]
    try:
        await until(_more_than(answered, 20), within=60, what="requests were not answered before the kill")
        victim = (await node.status()).processes[process]
        os.kill(victim, signal.SIGKILL)

        async def back() -> bool:
            try:
                status = await node.status()
            except (NodeUnreachable, TimeoutError):
                return False
            return status.processes.get(process) not in (None, victim)

        await until(back, within=60, what=f"{process} was not started again")
        before = len(answered)
        await until(_more_than(answered, before + 20), within=60, what="requests were not answered after the kill")
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*askers), 60)
    return answered


def _more_than(answered: list[str], count: int):
    async def reached() -> bool:
        return len(answered) > count

    return reached


async def assert_consistent(node: NodeProcess, answered: list[str]) -> None:
    """Every answered request is completed in the tables, each received one has one outcome, rebuilt equals live."""
    async with tables(node) as found:
        await found.wait_for((await node.status()).stored_position, timeout=60)
        rows = await found.requests(limit=100_000)
        states = {row["request"]: row["state"] for row in rows}
        assert set(answered) <= set(states)
        assert {states[request] for request in answered} == {"completed"}
    await node.stop()
    status, output, errors = await node.command("digest", "--check")
    assert status == 0, output + errors
    assert "identical" in errors
    status, output, errors = await node.command("audit", "verify")
    assert status == 0, output + errors


@pytest.mark.parametrize("process", ["broker", "overlay", "projector"])
async def test_a_killed_child_comes_back_and_nothing_is_lost(tmp_path: Path, process: str) -> None:
    async with running_node(tmp_path, "second", config("second", PATIENT)) as second:
        address = (await second.status()).addresses[0]
        async with running_node(tmp_path, "first", config("first", PATIENT, peers=[address])) as first:
            await connected(first, second)
            await offered(first, 2)
            answered = await kill_under_load(first, process)
            await connected(first, second)
            async with tables(first) as found:
                await found.wait_for((await first.status()).stored_position, timeout=60)
                rows = await found.requests(limit=100_000)
                assert {row["state"] for row in rows} <= {"completed", "failed", "cancelled"}
                (restarts,) = [row["process_restarts"] for row in await found.nodes() if row["node"] == first.peer_id]
            assert restarts >= 1
            await assert_consistent(first, answered)


async def test_a_killed_node_resumes_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    async with running_node(tmp_path, "only", config("only", PATIENT)) as node:
        answered: list[str] = []
        stop = asyncio.Event()
        slow = asyncio.create_task(_ask_slowly(node))
        await until(lambda: _serves(node), within=60, what="the slow request did not begin")
        askers = [asyncio.create_task(ask_for_ever(node, answered, stop)) for _ in range(4)]
        await until(_more_than(answered, 30), within=60, what="requests were not answered before the kill")
        await node.kill()
        with pytest.raises((RequestFailed, NodeUnreachable)):
            await slow
        await node.start()
        before = len(answered)
        await until(_more_than(answered, before + 10), within=60, what="requests were not answered after the kill")
        stop.set()
        await asyncio.wait_for(asyncio.gather(*askers), 60)
        status = await node.status()
        assert status.epoch == 2
        async with tables(node) as found:
            await found.wait_for(status.stored_position, timeout=60)
            rows = await found.requests(limit=100_000)
            assert {row["state"] for row in rows} <= set(OUTCOMES)
            interrupted = [row for row in rows if row["state"] == "interrupted"]
            assert 1 <= len(interrupted) <= 5
            _columns, counts = await found.sql("SELECT crashes, epoch FROM nodes")
            assert counts == [(1, 2)]
        await assert_consistent(node, answered)


async def _ask_slowly(node: NodeProcess) -> None:
    async with Mesh.connect(node.home.root) as mesh:
        await mesh.ask("300000 never", domain="language", timeout=300)


async def _serves(node: NodeProcess) -> bool:
    return (await node.status()).serving > 0


async def test_a_request_fails_over_when_the_node_that_works_on_it_is_killed(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path, "second", config("second", HELD)) as second,
        running_node(tmp_path, "third", config("third", HELD)) as third,
    ):
        addresses = [(await node.status()).addresses[0] for node in (second, third)]
        async with running_node(tmp_path, "first", config("first", peers=addresses)) as first:
            await offered(first, 2)
            async with Mesh.connect(first.home.root) as mesh:
                asking = asyncio.create_task(mesh.ask(str(tmp_path), domain="language", delivery="whole", timeout=180))

                async def working() -> bool:
                    return any([(await node.status()).serving for node in (second, third)])

                await until(working, within=60, what="nobody worked on it")
                busy, idle = (second, third) if (await second.status()).serving else (third, second)
                await busy.kill()
                (tmp_path / "go").touch()
                outcome = await asking
            assert outcome.text == "first second"
            assert outcome.attempts == 2
            assert outcome.peers == (idle.peer_id,)
            status, output, errors = await first.command("why", outcome.request)
            assert status == 0, errors
            assert output.count("recomputed: identical") == 2
            assert "disconnected" in output
            assert "disconnected" in output or "already tried" in output


async def test_a_lost_peer_is_alerted_acknowledged_and_resolved(tmp_path: Path) -> None:
    async with running_node(tmp_path, "second", config("second", PATIENT)) as second:
        address = (await second.status()).addresses[0]
        async with running_node(tmp_path, "first", config("first", peers=[address])) as first:
            await connected(first, second)
            lost = f"peer_lost/{second.peer_id}"
            async with tables(first) as found:

                async def in_state(state: str) -> bool:
                    return any(row["alert"] == lost and row["state"] == state for row in await found.alerts())

                await until(_is_old_enough(found, second), within=60, what="the connection did not last")
                await second.kill()
                await until(lambda: in_state("raised"), within=60, what="the lost peer was not alerted")
                some = lost[:-4]  # how it begins is enough
                status, output, errors = await first.command("alerts", "ack", some, "--note", "seen", "--actor", "me")
                assert (status, output) == (0, f"acknowledged {lost}\n"), errors
                _listen_at(second, address)
                await until(lambda: in_state("acknowledged"), within=60, what="the acknowledgement was not projected")
                status, output, errors = await first.command("alerts", "ack", lost)
                assert status != 0
                assert "acknowledged" in errors
                await second.start()
                await until(lambda: in_state("resolved"), within=60, what="the alert did not resolve")
                history = [row["step"] for row in await found.alert_history(lost)]
            assert history == ["pending", "raised", "acknowledged", "resolved"]


def _listen_at(node: NodeProcess, address: str) -> None:
    """Come back at the address where the others look for it."""
    settings = node.home.config_file
    settings.write_text(settings.read_text().replace("/ip4/127.0.0.1/tcp/0", address.partition("/p2p/")[0]))


def _is_old_enough(found: Queries, peer: NodeProcess):
    """A peer counts as lost only when it was there for a while: one health sample of it at least."""

    async def sampled() -> bool:
        return len(await found.samples(peer.peer_id)) >= 4

    return sampled
