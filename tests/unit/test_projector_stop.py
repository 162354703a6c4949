"""A projector that is told to stop takes what is stored with it, and waits for nobody."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from mesh.events.envelope import Record
from mesh.projections import worker
from mesh.projections.queries import Queries
from mesh.projections.rebuild import rebuild
from tests.kit.records import some
from tests.kit.tables import ListReader

JOURNAL = some(7)


class Quiet(ListReader):
    """A broker that delivers nothing of itself, and later answers nobody either."""

    stuck = False

    async def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        if self.stuck:
            await asyncio.Event().wait()
        async for batch in super().read(first, last):
            yield batch

    async def follow(self, first: int = 1) -> AsyncIterator[list[Record]]:
        await asyncio.Event().wait()
        yield self.records[first:]


async def stopped(url: str, reader: Quiet, *, stuck: bool = False, rebuilt: bool = False) -> int:
    """Where the tables are, once a projector has ended that knew five of seven events."""
    ready = asyncio.Event()
    projecting = asyncio.create_task(worker.project(url, reader, ready.set))
    await ready.wait()
    async with Queries(url) as tables:
        await tables.wait_for(5)
        if rebuilt:
            await rebuild(url, reader)
        reader.records, reader.stuck = JOURNAL, stuck
        projecting.cancel()
        await asyncio.wait([projecting], timeout=60)
        assert projecting.cancelled()
        return await tables.position()


async def test_what_was_stored_is_projected_before_it_ends(tmp_path: Path) -> None:
    assert await stopped(f"sqlite:///{tmp_path}/state.sqlite", Quiet(JOURNAL[:5])) == 7


async def test_it_is_also_in_tables_that_were_rebuilt_meanwhile(tmp_path: Path) -> None:
    assert await stopped(f"sqlite:///{tmp_path}/state.sqlite", Quiet(JOURNAL[:5]), rebuilt=True) == 7


async def test_a_broker_that_does_not_answer_does_not_hold_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LAST_S", 0.1)
    with structlog.testing.capture_logs() as logged:
        assert await stopped(f"sqlite:///{tmp_path}/state.sqlite", Quiet(JOURNAL[:5]), stuck=True) == 5
    assert logged[-1]["event"] == "stopped before all that is stored was projected"
    assert (logged[-1]["position"], logged[-1]["reason"]) == (5, "TimeoutError")
