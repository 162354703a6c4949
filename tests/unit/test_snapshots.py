"""Snapshots: taken up where the journal bears them out, passed over otherwise, and never more than a shortcut."""

from pathlib import Path

import pytest

from mesh.clock import SystemClock
from mesh.events import snapshots
from mesh.events.envelope import Event
from mesh.events.journal import Journal
from mesh.events.live_state import LiveStruct
from mesh.events.snapshots import MAX_KEPT, NEWEST_KEPT, SnapshotFiles, superfluous
from mesh.events.snapshotter import Snapshotter
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.node import NodeStarted, NodeStopped
from tests.kit.waiting import until

US = "12D3KooWus"


class Seen(LiveStruct):
    """Counts what it folds, and how much of that in this life."""

    started: int = 0
    last: int = 0

    def apply(self, event: Event) -> None:
        self.started += isinstance(event.fact, NodeStarted)
        self.last = event.position


class Counting(Seen):
    folded: int = 0

    def apply(self, event: Event) -> None:
        super().apply(event)
        self.folded += 1

    def saved(self) -> bytes:
        blank, self.folded = self.folded, 0
        saved = super().saved()
        self.folded = blank
        return saved


def started(epoch: int) -> NodeStarted:
    return NodeStarted(epoch=epoch, name="", release="", resumed_from=0, clean=True)


async def live(
    store: MemoryEventStore, files: SnapshotFiles, events: int, *, every: int = 10, stop: bool = True
) -> tuple[Counting, int]:
    """One life of a node that records ``events``; what it folded when it began, and its state at the end."""
    state = Counting()
    snapshotter = Snapshotter(files, {"seen": state}, every=every)
    journal = Journal(US, store, SystemClock(), folds=[state.apply])
    await journal.open(snapshotter.resume)
    folded = state.folded
    await snapshotter.watch(journal)
    for number in range(events):
        await journal.emit(started(number)).stored()
    if events >= every:
        await until(lambda: any(position > len(store.records) - every for position in files.positions()))
    if stop:
        await snapshotter.stop()
    assert journal.origin_seq == journal.position == state.started == state.last
    return state, folded


def files_in(directory: Path, settings: str = "") -> SnapshotFiles:
    return SnapshotFiles(directory / "snapshots", US, settings)


async def test_a_start_folds_only_what_follows_the_newest_snapshot(tmp_path: Path) -> None:
    store, files = MemoryEventStore(US), files_in(tmp_path)
    await live(store, files, 12)
    newest = files.positions()[-1]
    assert newest >= 10
    state, folded = await live(store, files, 0)
    assert folded == 12 - newest
    assert state.started == 12


async def test_a_stop_takes_a_snapshot_when_there_is_much_to_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.events.snapshotter.WORTH_IT", 7)
    store, files = MemoryEventStore(US), files_in(tmp_path)
    await live(store, files, 6)
    assert files.positions() == []
    await live(store, files, 1)
    assert files.positions() == [7]
    assert (await live(store, files, 0))[1] == 0


async def taken(tmp_path: Path, store: MemoryEventStore, *positions: int) -> SnapshotFiles:
    """Snapshots at some positions, which one life after the other left."""
    files = files_in(tmp_path)
    for position in positions:
        before = len(store.records)
        await live(store, files, position - before, every=position - before)
    assert files.positions() == list(positions)
    return files


@pytest.mark.parametrize("harm", ["bit", "short", "empty", "gone", "other code", "other settings", "journal"])
async def test_what_does_not_fit_is_passed_over_and_deleted(
    tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryEventStore(US)
    files = await taken(tmp_path, store, 10, 20)
    newest = tmp_path / "snapshots" / "20.json"
    whole = newest.read_bytes()
    match harm:
        case "bit":
            newest.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        case "short":
            newest.write_bytes(whole[: len(whole) // 2])
        case "empty":
            newest.write_bytes(b"")
        case "gone":
            newest.unlink()
        case "other code":
            monkeypatch.setattr(snapshots, "code_fingerprint", lambda: "another release")
            files = files_in(tmp_path)
        case "other settings":
            files = files_in(tmp_path, "another window")
        case "journal":  # its end was lost, and went on in another way
            del store.records[15:]
            (tmp_path / "elsewhere").mkdir()
            await live(store, files_in(tmp_path / "elsewhere"), 10)
    state, folded = await live(store, files, 0)
    assert (state.started, state.last) == (len(store.records), len(store.records))
    everything = harm.startswith("other")
    assert folded == len(store.records) - (0 if everything else 10)
    assert files.positions() == ([] if everything else [10])


async def test_a_snapshot_beyond_the_end_of_the_journal_is_deleted(tmp_path: Path) -> None:
    store = MemoryEventStore(US)
    files = await taken(tmp_path, store, 10, 20)
    del store.records[15:]
    assert (await live(store, files, 0))[1] == 5
    assert files.positions() == [10]


async def test_a_state_that_cannot_be_taken_up_leaves_all_of_them_blank(tmp_path: Path) -> None:
    """A snapshot with one state that is damaged in a way that its digest does not show."""
    store = MemoryEventStore(US)
    files = await taken(tmp_path, store, 10)
    first, second = Seen(), Odd()
    for state in (first, second):
        state.started = 3
    snapshot = files.load(10)
    files.save(
        type(snapshot)(
            **{**as_fields(snapshot), "states": {"a": snapshot.states["seen"], "b": snapshot.states["seen"]}}
        )
    )
    assert await files.resume({"a": first, "b": second}, store, 10) is None
    assert (first.started, second.started) == (3, 3)


class Odd(Seen):
    def take_up(self, saved: bytes) -> None:
        if b'"started":10' in saved:
            raise ValueError("odd")
        super().take_up(saved)


def as_fields(snapshot: snapshots.Snapshot) -> dict[str, object]:
    return {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}


async def test_the_nearest_before_a_position_is_found(tmp_path: Path) -> None:
    store = MemoryEventStore(US)
    files = await taken(tmp_path, store, 10, 20, 30)
    found = [await files.fitting(store, last) for last in (9, 10, 19, 29, 35)]
    assert [snapshot.position if snapshot else None for snapshot in found] == [None, 10, 10, 20, 30]


async def test_without_room_the_node_goes_on(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("in the way")
    store, files = MemoryEventStore(US), files_in(tmp_path)
    state = Seen()
    snapshotter = Snapshotter(files, {"seen": state}, every=5)
    journal = Journal(US, store, SystemClock(), folds=[state.apply])
    await journal.open(snapshotter.resume)
    await snapshotter.watch(journal)
    for number in range(12):
        await journal.emit(started(number)).stored()
    assert snapshotter.keeper.task is not None
    assert not snapshotter.keeper.task.done()
    await snapshotter.stop()
    await journal.emit(NodeStopped(reason="")).stored()


def test_old_snapshots_get_thinner() -> None:
    kept: list[int] = []
    for position in range(1, 2000):
        kept.append(position)
        kept = [each for each in kept if each not in superfluous(kept)]
        assert len(kept) <= MAX_KEPT
        assert kept[0] == 1
        assert kept[-NEWEST_KEPT:] == list(range(max(1, position - NEWEST_KEPT + 1), position + 1))
