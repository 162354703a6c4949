"""Seals: when they are made, what they sign, and what is remembered."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.errors import JournalError
from mesh.events.audit import verify
from mesh.events.audit_journal import audit_journal
from mesh.events.head_file import load_head, save_head
from mesh.events.journal import Journal
from mesh.events.sealer import Sealer
from mesh.events.store import Head
from mesh.events.store_memory import MemoryEventStore
from mesh.home import Home
from mesh.identity import Identity
from tests.kit.facts import suspected

KEY = Identity(b"\5" * 32)


class HandClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1_767_225_600.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.seconds + seconds, future))
        await future

    async def pass_by(self, seconds: float) -> None:
        self.seconds += seconds
        for until, future in self._sleepers:
            if until <= self.seconds and not future.done():
                future.set_result(None)
        for _ in range(10):
            await asyncio.sleep(0)


class Node:
    def __init__(self, home: Home) -> None:
        self.home, self.clock, self.store = home, HandClock(), MemoryEventStore(KEY.peer_id)
        self.journal = Journal(KEY.peer_id, self.store, self.clock)
        self.sealer = Sealer(self.journal, KEY, home, clock=self.clock, every=10, interval_s=60, settle_s=3)

    def emit(self, count: int) -> None:
        for number in range(count):
            self.journal.emit(suspected(number))

    def seals(self) -> list[int]:
        return [record.position for record in self.store.records if record.subject.endswith("journal.sealed")]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(Home(tmp_path))
    await node.journal.open()
    await node.sealer.start()
    await asyncio.sleep(0)
    yield node
    await node.sealer.stop()
    await node.journal.close()


async def test_every_so_many_events_are_sealed(node: Node) -> None:
    node.emit(25)
    await node.journal.stored()
    assert node.seals() == [11, 22]
    report = verify(node.store.records, KEY.peer_id)
    assert report.ok
    assert report.sealed_position == 21


async def test_what_is_new_is_sealed_at_the_interval_and_nothing_else(node: Node) -> None:
    node.emit(3)
    await node.clock.pass_by(60)
    assert node.seals() == [4]
    await node.clock.pass_by(3)
    await node.clock.pass_by(60)
    await node.clock.pass_by(60)
    assert node.seals() == [4], "a seal is nothing new"


async def test_the_head_is_remembered_once_it_is_safe_on_disk(node: Node) -> None:
    node.emit(3)
    await node.clock.pass_by(60)
    assert load_head(node.home.journal_head) is None
    await node.clock.pass_by(3)
    assert load_head(node.home.journal_head) == node.journal.head


async def test_stopping_seals_and_remembers_the_very_end(node: Node) -> None:
    node.emit(3)
    await node.sealer.stop()
    assert node.seals() == [4]
    assert load_head(node.home.journal_head) == node.journal.head
    report = await audit_journal(node.store, KEY.peer_id, node.home)
    assert report.ok
    assert report.sealed_position == 3
    cut = MemoryEventStore(KEY.peer_id, node.store.records[:-2])
    report = await audit_journal(cut, KEY.peer_id, node.home)
    assert [(finding.position, finding.kind) for finding in report.findings] == [(3, "truncated")]


async def test_stopping_after_the_journal_failed_raises_nothing(node: Node) -> None:
    node.emit(3)
    await node.journal.stored()
    node.store.fail(JournalError("the disk is full"))
    await node.sealer.stop()
    assert load_head(node.home.journal_head) is None


def test_a_head_file_is_read_back(tmp_path: Path) -> None:
    save_head(tmp_path / "head", Head(7, b"\1" * 32))
    assert load_head(tmp_path / "head") == Head(7, b"\1" * 32)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"position": 1, "link": "zz"}', '{"position": -1, "link": ""}', "\0"]
)
def test_a_damaged_head_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "head").write_text(text)
    with pytest.raises(JournalError, match="delete this file"):
        load_head(tmp_path / "head")
