"""Bytes of the store changed on disk, behind the server's back; and a disk that is full."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh.errors import JournalBroken, JournalError
from mesh.events.audit import Report
from mesh.events.audit_journal import audit_journal, audit_stored
from mesh.events.head_file import load_head
from mesh.events.reader_nats import NatsEventReader
from mesh.events.sealer import Sealer
from mesh.events.vocabulary.network import PeerSuspected
from mesh.home import Home
from mesh.identity import Identity
from tests.kit.broker import CLOCK, open_journal, running_broker
from tests.kit.facts import stopped, suspected

pytestmark = pytest.mark.e2e
EVENTS = 3000
OWNER = Identity(b"\x09" * 32)


def numbered(number: int) -> PeerSuspected:
    """Every event says its position where a search of the files finds it."""
    return PeerSuspected(peer=f"<<{number:08d}>>", phi=1.0, silent_s=1.0)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a node that stored its events, sealed them and stopped."""
    home = tmp_path_factory.mktemp("pristine")

    async def fill() -> None:
        async with running_broker(home) as broker:
            journal = await open_journal(broker, OWNER)
            sealer = Sealer(journal, OWNER, Home(home), clock=CLOCK)
            while journal.position < EVENTS - 1:
                journal.emit(numbered(journal.position + 1))
            await sealer.stop()
            await journal.close()

    asyncio.run(fill())
    return home


@pytest.fixture
def home(pristine: Path, tmp_path: Path) -> Home:
    shutil.copytree(pristine, tmp_path / "home")
    return Home(tmp_path / "home")


def blocks(home: Home) -> list[Path]:
    found = sorted(home.broker.glob("store/**/msgs/*.blk"), key=lambda path: int(path.stem))
    assert found
    return found


def edit(home: Home, position: int, change: Callable[[bytearray, int], None]) -> None:
    """Change the block that holds ``position``, found by what its event says."""
    needle = f"<<{position:08d}>>".encode()
    for block in blocks(home):
        content = bytearray(block.read_bytes())
        if (at := content.find(needle)) >= 0:
            change(content, at)
            block.write_bytes(content)
            return
    pytest.fail(f"position {position} is in no block: compressed?")


def flip(content: bytearray, at: int) -> None:
    content[at + 4] ^= 1


async def audited(home: Home) -> Report:
    async with running_broker(home.root) as broker:
        return await audit_journal(NatsEventReader(broker.address("operator")), OWNER.peer_id, home)


async def test_an_untouched_store_is_whole(home: Home) -> None:
    report = await audited(home)
    assert report.ok, report
    assert (report.last, report.sealed_position) == (EVENTS, EVENTS - 1)
    assert load_head(home.journal_head) is not None
    async with running_broker(home.root) as broker:
        journal = await open_journal(broker, OWNER, known=load_head(home.journal_head))
        assert journal.position == EVENTS
        await journal.close()


@pytest.mark.parametrize("position", [1, 1500, EVENTS - 1])
async def test_a_flipped_bit_is_found_at_its_position(home: Home, position: int) -> None:
    """The server skips what does not fit its checksum, or drops what follows; either way something is missing."""
    edit(home, position, flip)
    report = await audited(home)
    assert not report.ok
    assert report.findings[0].position == position, report
    assert report.findings[0].kind in ("missing", "truncated")


async def test_a_flipped_bit_in_the_tail_keeps_the_node_from_starting(home: Home) -> None:
    edit(home, EVENTS - 50, flip)
    async with running_broker(home.root) as broker:
        with pytest.raises(JournalBroken) as broken:
            await open_journal(broker, OWNER, known=load_head(home.journal_head))
    assert broken.value.position == EVENTS - 50
    assert "audit verify" in broken.value.remedy


async def test_a_flipped_bit_long_ago_is_met_when_history_is_read(home: Home) -> None:
    edit(home, 100, flip)
    async with running_broker(home.root) as broker:
        with pytest.raises(JournalBroken) as broken:
            await open_journal(broker, OWNER)
    assert broken.value.position == 100


async def test_a_store_cut_short_is_noticed_by_the_head(home: Home) -> None:
    last = blocks(home)[-1]
    os.truncate(last, last.stat().st_size // 2)
    for index in home.broker.glob("store/**/msgs/index.db"):
        index.unlink()
    async with running_broker(home.root) as broker:
        with pytest.raises(JournalBroken, match=f"had reached {EVENTS}") as broken:
            await open_journal(broker, OWNER, known=load_head(home.journal_head))
        report = await audit_journal(NatsEventReader(broker.address("node")), OWNER.peer_id, home)
        assert (report.findings[0].position, report.findings[0].kind) == (broken.value.position, "truncated")


async def test_a_store_that_is_gone_is_noticed_by_the_head(home: Home) -> None:
    shutil.rmtree(home.broker / "store")
    async with running_broker(home.root) as broker:
        with pytest.raises(JournalBroken, match="ends at position 0"):
            await open_journal(broker, OWNER, known=load_head(home.journal_head))


async def test_the_store_of_another_node_is_refused(home: Home) -> None:
    async with running_broker(home.root) as broker:
        with pytest.raises(JournalBroken, match="another node") as broken:
            await open_journal(broker, Identity(b"\x08" * 32))
    assert broken.value.position == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def fill(home: Path, durability: str, place: Path) -> int:
    """Emit until the disk is full; the error says so. Returns the last position that was acknowledged."""
    async with running_broker(home, durability=durability) as broker:
        journal = await open_journal(broker, OWNER, durability=durability)
        with pytest.raises(JournalError, match=r"(?i)disk of the event store is full") as full:
            await asyncio.wait_for(flood(journal), 60)
        assert "Free space" in str(full.value)
        stored = journal.stored_position
        await journal.close()
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        return stored


async def flood(journal: object) -> None:
    from mesh.events.journal import Journal

    assert isinstance(journal, Journal)
    while True:
        for number in range(20):
            journal.emit(stopped(f"{number}" * 1000))
        await journal.stored()


@pytest.mark.root
@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_full_disk_is_named_and_loses_nothing(small_disk: Path, durability: str) -> None:
    stored = await fill(small_disk / "home", durability, small_disk)
    assert stored > 1000
    async with running_broker(small_disk / "home", durability=durability) as broker:
        journal = await open_journal(broker, OWNER, durability=durability)
        assert journal.position >= stored
        await journal.emit(suspected(1)).stored()
        report = await audit_stored(NatsEventReader(broker.address("node")), OWNER.peer_id, journal.head)
        assert [finding for finding in report.findings if finding.kind != "unsealed"] == []
        await journal.close()
