"""What every event store promises, asked of the one in memory and of real JetStream in both durabilities."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.errors import JournalBroken, JournalError, JournalFenced
from mesh.events import store_nats
from mesh.events.chain import genesis
from mesh.events.connection import Connection
from mesh.events.envelope import Record
from mesh.events.store import EventReader, EventStore, Head
from mesh.events.store_memory import MemoryEventStore
from mesh.events.store_nats import NatsEventStore
from mesh.events.wire import Message
from tests.kit.broker import running_broker
from tests.kit.records import OTHER, OWNER, head_of, some


async def everything(reader: EventReader, first: int = 1, last: int | None = None) -> list[Record]:
    return [record async for batch in reader.read(first, last) for record in batch]


class EventStoreContract:
    """One subclass per adapter. ``store`` is new and empty; `again` opens what it stored a second time."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[EventStore]:
        raise NotImplementedError

    def again(self, store: EventStore, owner: str = OWNER) -> EventStore:
        raise NotImplementedError

    async def filled(self, store: EventStore, count: int) -> list[Record]:
        await store.open()
        records = some(count)
        for record in records:
            store.append(record)
        await store.wait_stored(count)
        return records

    async def test_a_new_store_is_empty_and_begins_with_its_owners_genesis(self, store: EventStore) -> None:
        assert await store.open() == Head(0, genesis(OWNER))
        assert await everything(store) == []

    async def test_what_was_appended_is_read_back_byte_for_byte(self, store: EventStore) -> None:
        records = await self.filled(store, 1500)
        assert await everything(store) == records

    async def test_stored_position_and_backlog_tell_what_is_on_its_way(self, store: EventStore) -> None:
        await store.open()
        for record in some(10):
            store.append(record)
        assert (store.stored_position, store.backlog) == (0, 10)
        await store.wait_stored(10)
        assert (store.stored_position, store.backlog) == (10, 0)

    @pytest.mark.parametrize(("first", "last", "positions"), [(3, 5, (3, 5)), (9, None, (9, 10)), (0, 2, (1, 2))])
    async def test_a_range_is_read(
        self, store: EventStore, first: int, last: int | None, positions: tuple[int, int]
    ) -> None:
        records = await self.filled(store, 10)
        assert await everything(store, first, last) == records[positions[0] - 1 : positions[1]]

    async def test_a_range_beyond_the_end_is_empty(self, store: EventStore) -> None:
        await self.filled(store, 3)
        assert await everything(store, 4) == []
        assert await everything(store, 2, 99) == some(3)[1:]

    async def test_a_later_store_resumes_where_the_first_ended(self, store: EventStore) -> None:
        records = await self.filled(store, 40)
        await store.close()
        second = self.again(store)
        head = await second.open()
        assert head == head_of(records)
        more = some(5, after=head)
        for record in more:
            second.append(record)
        await second.wait_stored(45)
        assert await everything(second) == records + more
        await second.close()

    async def test_a_position_out_of_order_is_refused_and_changes_nothing(self, store: EventStore) -> None:
        await store.open()
        records = some(3)
        store.append(records[0])
        for wrong in (records[0], records[2]):
            with pytest.raises(JournalFenced, match=f"position {wrong.position} "):
                store.append(wrong)
        store.append(records[1])
        await store.wait_stored(2)
        assert await everything(store) == records[:2]

    async def test_nothing_can_be_appended_after_closing(self, store: EventStore) -> None:
        records = await self.filled(store, 1)
        await store.close()
        with pytest.raises(JournalError, match="closed"):
            store.append(some(1, after=head_of(records))[0])

    async def test_closing_flushes_what_is_queued(self, store: EventStore) -> None:
        await store.open()
        for record in some(300):
            store.append(record)
        await store.close()
        second = self.again(store)
        assert (await second.open()).position == 300
        await second.close()

    async def test_another_nodes_store_is_refused(self, store: EventStore) -> None:
        await self.filled(store, 5)
        await store.close()
        with pytest.raises(JournalBroken) as broken:
            await self.again(store, OTHER).open()
        assert broken.value.position == 1

    async def test_an_event_that_does_not_fit_the_one_before_it_is_found_at_the_start(self, store: EventStore) -> None:
        await store.open()
        good = some(3)
        bad = some(3, after=Head(3, b"\1" * 32))
        for record in good + bad:
            store.append(record)
        await store.wait_stored(6)
        await store.close()
        with pytest.raises(JournalBroken) as broken:
            await self.again(store).open()
        assert broken.value.position in (3, 4)

    async def test_following_gives_what_is_stored_and_then_what_comes(self, store: EventStore) -> None:
        records = await self.filled(store, 700)
        seen: list[Record] = []
        caught_up, finished = asyncio.Event(), asyncio.Event()

        async def follow() -> None:
            async for batch in store.follow(600):
                seen.extend(batch)
                if seen[-1].position >= 700:
                    caught_up.set()
                if seen[-1].position >= 720:
                    finished.set()

        follower = asyncio.create_task(follow())
        await asyncio.wait_for(caught_up.wait(), 60)
        more = some(20, after=head_of(records))
        for record in more:
            store.append(record)
            await asyncio.sleep(0)
        await asyncio.wait_for(finished.wait(), 60)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        assert seen == records[599:] + more

    async def test_following_from_beyond_the_end_says_that_the_end_was_lost(self, store: EventStore) -> None:
        await self.filled(store, 3)
        with pytest.raises(JournalBroken) as broken:
            await asyncio.wait_for(anext(aiter(store.follow(5))), 60)
        assert broken.value.position == 4

    async def test_failure_waits_while_all_is_well(self, store: EventStore) -> None:
        await self.filled(store, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.failure(), 0.05)


class TestMemory(EventStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryEventStore]:
        store = MemoryEventStore(OWNER)
        yield store
        await store.close()

    def again(self, store: EventStore, owner: str = OWNER) -> EventStore:
        assert isinstance(store, MemoryEventStore)
        return MemoryEventStore(owner, store.records)

    async def test_a_failed_store_raises_everywhere(self, store: MemoryEventStore) -> None:
        await self.filled(store, 1)
        store.fail(JournalError("the disk is full"))
        with pytest.raises(JournalError, match="disk"):
            store.append(some(1, after=head_of(some(1)))[0])
        with pytest.raises(JournalError, match="disk"):
            await store.wait_stored(2)
        assert "disk" in str(await store.failure())


@pytest.mark.e2e
class TestNats(EventStoreContract):
    durability = "process"

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[NatsEventStore]:
        async with running_broker(tmp_path, durability=self.durability) as broker:
            self._address = broker.address("node")
            store = self.again(None)
            yield store
            await store.close()

    def again(self, store: EventStore | None, owner: str = OWNER) -> NatsEventStore:
        del store
        return NatsEventStore(self._address, owner, durability=self.durability)

    async def test_what_somebody_waits_for_goes_at_once_or_with_the_next_acknowledgement(
        self, store: NatsEventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_nats, "_LINGER_S", 60)
        records = some(60)
        await store.open()
        store.append(records[0])
        await store.wait_stored(1)
        connection = store._connection
        assert connection is not None
        writes: list[bytes] = []
        held: list[list[Message]] = []
        write, hear = Connection.write, connection.on_messages

        def noted(self: Connection, data: bytes) -> None:
            if data != b"PONG\r\n":  # the server asks once the connection is two seconds old
                writes.append(data)
            write(self, data)

        monkeypatch.setattr(Connection, "write", noted)
        connection.on_messages = held.append  # acknowledgements are kept back

        async def stored(record: Record) -> None:
            store.append(record)
            await store.wait_stored(record.position)

        async def all_stored() -> None:
            async with asyncio.TaskGroup() as tasks:
                for record in records[1:]:
                    tasks.create_task(stored(record))
                    await asyncio.sleep(0)
                assert len(writes) == 1, "the first went at once, and what came meanwhile waits"
                async with asyncio.timeout(60):
                    while not held:
                        await asyncio.sleep(0.001)
                connection.on_messages = hear
                hear(held.pop())

        await all_stored()
        assert len(writes) == 2, "all others went together"
        assert store.stored_position == len(records)


class TestNatsPower(TestNats):
    durability = "power"
