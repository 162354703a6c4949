"""The journal on a real server that is killed, frozen, taken away, filled up, or written to by somebody else."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from mesh.clock import SystemClock
from mesh.errors import JournalBroken, JournalError, JournalFenced
from mesh.events.audit_journal import audit_stored
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.journal import Journal
from mesh.events.reader_nats import NatsEventReader
from mesh.events.sealer import Sealer
from mesh.events.store_nats import NatsEventStore
from mesh.events.vocabulary.network import PeerSuspected
from mesh.home import Home
from mesh.identity import Identity
from tests.kit.broker import embedded, open_journal, running_broker
from tests.kit.facts import stopped, suspected
from tests.kit.freezing import frozen
from tests.kit.records import OWNER, some
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e


class Load:
    """Emits numbered events as fast as the loop allows, and notes the last one known to be stored."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.emitted = 0
        self.going = True

    async def run(self) -> None:
        while self.going:
            for _ in range(20):
                self.journal.emit(suspected(self.emitted))
                self.emitted += 1
            while self.journal.backlog > 20_000 and self.going:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_kill_9_of_the_server_under_load_loses_nothing(tmp_path: Path, durability: str) -> None:
    restarts: list[str] = []
    broker = embedded(tmp_path, restarts=restarts, durability=durability)
    await broker.start()
    try:
        owner = Identity.generate()
        journal = await open_journal(broker, owner, durability=durability)
        Sealer(journal, owner, Home(tmp_path), clock=SystemClock())
        load = Load(journal)
        running = asyncio.create_task(load.run())
        for kill in range(1, 4):
            before = journal.stored_position
            await until(lambda before=before: journal.stored_position > before + 500, what="progress")
            await asyncio.sleep(random.uniform(0, 0.1))
            acknowledged = journal.stored_position
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            await until(lambda kill=kill: len(restarts) == kill, what="the restart")
            assert journal.stored_position >= acknowledged
        load.going = False
        await running
        await asyncio.wait_for(journal.stored(), 60)
        facts = [
            decode(record).fact
            async for batch in NatsEventReader(broker.address("operator")).read()
            for record in batch
        ]
        assert [fact.phi for fact in facts if isinstance(fact, PeerSuspected)] == [
            float(n) for n in range(load.emitted)
        ]
        report = await audit_stored(NatsEventReader(broker.address("node")), owner.peer_id, journal.head)
        assert report.ok, report
        await journal.close()
    finally:
        await broker.stop()


async def test_a_follower_sees_every_event_once_across_kills(tmp_path: Path) -> None:
    restarts: list[str] = []
    broker = embedded(tmp_path, restarts=restarts)
    await broker.start()
    try:
        journal = await open_journal(broker, Identity.generate())
        seen: list[int] = []

        async def follow() -> None:
            async for batch in NatsEventReader(broker.address("operator")).follow(1):
                seen.extend(record.position for record in batch)

        follower = asyncio.create_task(follow())
        for kill in range(1, 3):
            for number in range(300):
                journal.emit(suspected(number))
            await until(lambda kill=kill: len(seen) >= 300 * kill - 100 or follower.done(), what="the follower")
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            await until(lambda kill=kill: len(restarts) == kill)
        journal.emit(stopped())
        await journal.stored()
        await until(lambda: len(seen) >= 601 or follower.done(), what="the end")
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        assert seen == list(range(1, 602))
        await journal.close()
    finally:
        await broker.stop()


async def test_a_frozen_server_is_waited_for(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        journal = await open_journal(broker, Identity.generate())
        journal.emit(stopped())
        await journal.stored()
        assert broker.pid is not None
        with frozen(broker.pid):
            emission = journal.emit(stopped())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(emission.stored(), 0.3)
        await asyncio.wait_for(emission.stored(), 60)
        await journal.close()


async def test_a_second_writer_is_fenced_and_the_history_stays_whole(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        owner = Identity.generate()
        first, second = await open_journal(broker, owner), await open_journal(broker, owner)
        failing = asyncio.create_task(second.failure())
        for number in range(200):
            first.emit(suspected(number))
        await first.stored()
        late = second.emit(stopped())
        with pytest.raises(JournalFenced, match="another process writes"):
            await asyncio.wait_for(late.stored(), 60)
        assert isinstance(await asyncio.wait_for(failing, 60), JournalFenced)
        with pytest.raises(JournalFenced):
            second.emit(stopped())
        await first.emit(stopped()).stored()
        report = await audit_stored(NatsEventReader(broker.address("node")), owner.peer_id, first.head)
        assert report.ok, report
        assert report.events == 201
        await second.close()
        await first.close()


async def burst(journal: Journal) -> None:
    for number in range(1500):
        journal.emit(suspected(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await journal.stored()


async def test_two_writers_at_full_speed_never_mix(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        owner = Identity.generate()
        journals = [await open_journal(broker, owner), await open_journal(broker, owner)]
        ends = await asyncio.gather(*(asyncio.wait_for(burst(j), 60) for j in journals), return_exceptions=True)
        assert [type(end) for end in ends].count(JournalFenced) == 1
        assert (await audit_stored(NatsEventReader(broker.address("node")), owner.peer_id)).ok
        for journal in journals:
            await journal.close()


async def test_a_foreign_message_in_the_stream_fences_the_writer(tmp_path: Path) -> None:
    """Somebody with the node's own password publishes by hand."""
    import nats

    async with running_broker(tmp_path) as broker:
        journal = await open_journal(broker, Identity.generate())
        await journal.emit(stopped()).stored()
        address = broker.address("node")
        client = await nats.connect(address.url, **address.options())
        await client.jetstream().publish("mesh.event.somebody.node.stopped", b"{}")
        await client.close()
        with pytest.raises(JournalFenced):
            await asyncio.wait_for(journal.emit(stopped()).stored(), 60)
        await journal.close()
        report = await audit_stored(NatsEventReader(address), journal.origin)
        assert {(finding.position, finding.kind) for finding in report.findings} == {(2, "foreign"), (2, "unreadable")}


async def test_a_store_that_lost_acknowledged_events_is_noticed(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        journal = await open_journal(broker, Identity.generate())
        for number in range(50):
            journal.emit(suspected(number))
        await journal.stored()
        from mesh.events.connection import connect

        connection = await connect(broker.address("node"), name="vandal")
        await connection.request("$JS.API.STREAM.DELETE.MESH_EVENTS")
        connection.close()
        emission = journal.emit(stopped())
        with pytest.raises(JournalBroken, match="50 was acknowledged"):
            await asyncio.wait_for(emission.stored(), 60)
        await journal.close()


def append_all(store: NatsEventStore, records: list[Record]) -> None:
    for record in records:
        store.append(record)


async def test_a_server_that_stays_away_fails_the_journal_only_when_the_queue_is_full(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        store = NatsEventStore(broker.address("node"), OWNER, max_backlog_bytes=100_000, flush_s=0.1)
        await store.open()
    with pytest.raises(JournalError, match="over the limit of 100000 bytes"):
        append_all(store, some(1000))
    assert 50 < store.backlog < 1000
    waiting = asyncio.create_task(store.wait_stored(1))
    with pytest.raises(JournalError, match="over the limit"):
        await waiting
    await store.close()


async def test_what_was_queued_while_the_server_was_away_is_stored_when_it_is_back(tmp_path: Path) -> None:
    broker = embedded(tmp_path)
    await broker.start()
    journal = await open_journal(broker, Identity.generate())
    await broker.stop()
    emissions = [journal.emit(suspected(number)) for number in range(2500)]
    await asyncio.sleep(0.2)
    assert journal.stored_position == 0
    await broker.start()
    try:
        await asyncio.wait_for(emissions[-1].stored(), 60)
        await journal.close()
    finally:
        await broker.stop()


async def test_a_limit_that_is_reached_names_itself_and_keeps_the_chain_whole(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        owner = Identity.generate()
        journal = await open_journal(broker, owner, max_bytes=200_000)
        failing = asyncio.create_task(journal.failure())
        with pytest.raises(JournalError, match=r"limit of 200000 bytes \(broker\.max_bytes\)") as full:
            await asyncio.wait_for(burst(journal), 60)
        assert "Raise `max_bytes`" in str(full.value)
        assert await asyncio.wait_for(failing, 60) is full.value
        await journal.close()
        resumed = await open_journal(broker, owner, max_bytes=400_000)
        assert resumed.position == journal.stored_position > 100
        await resumed.emit(stopped()).stored()
        assert (await audit_stored(NatsEventReader(broker.address("node")), owner.peer_id, resumed.head)).ok
        await resumed.close()


async def test_events_up_to_the_limit_pass_and_larger_ones_change_nothing(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        journal = Journal(OWNER, NatsEventStore(broker.address("node"), OWNER), SystemClock())
        await journal.open()
        with pytest.raises(JournalError, match="over the limit of 524288"):
            journal.emit(stopped("x" * 524_288))
        assert journal.position == 0
        for _ in range(60):
            journal.emit(stopped("x" * 523_000))
        await asyncio.wait_for(journal.stored(), 60)
        count = 0
        async for batch in NatsEventReader(broker.address("operator")).read():
            count += len(batch)
        assert count == 60
        await journal.close()
