"""The projector as a process: killed, restarted, cut off from its broker, and always right in the end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.events import History
from mesh.config import Config
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.journal import Journal
from mesh.events.reader_nats import NatsEventReader
from mesh.home import Home
from mesh.identity import Identity
from mesh.processes import SupervisedProcess
from mesh.projections.process import ProjectorFailed, projector_process
from mesh.projections.queries import Queries
from mesh.projections.rebuild import rebuild, verify_rebuild
from tests.kit.broker import open_journal, running_broker
from tests.kit.processes import is_running

pytestmark = pytest.mark.e2e
LONG_S = 60.0


class Site:
    """A home with a broker, a journal that somebody writes, and a projector."""

    def __init__(self, home: Home, broker: EmbeddedBroker, journal: Journal) -> None:
        self.home = home
        self.broker = broker
        self.journal = journal
        self.restarts: list[str] = []
        self.url = f"sqlite:///{home.database}"
        self.reader = NatsEventReader(broker.address("operator"))
        self._history = History(seed=3, peers=8, restarts=0.3).facts()

    def projector(self) -> SupervisedProcess:
        return projector_process(
            self.home, Config(), on_restart=lambda reason, _count, _down_ms: self.restarts.append(reason)
        )

    async def write(self, count: int) -> None:
        for _ in range(count):
            told = next(self._history)
            self.journal.emit(told.fact, subject=told.subject, correlation=told.correlation)
        await self.journal.stored()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write, about as fast as a busy node does, for as long as the block lasts."""

        async def write() -> None:
            while True:
                await self.write(20)
                await asyncio.sleep(0.01)

        task = asyncio.create_task(write())
        try:
            yield
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.journal.stored()

    async def caught_up(self) -> None:
        async with Queries(self.url) as tables:
            await tables.wait_for(self.journal.position, LONG_S)


@asynccontextmanager
async def site(path: Path) -> AsyncIterator[Site]:
    home = Home(path / "home")
    home.create()
    async with running_broker(home.root) as broker:
        journal = await open_journal(broker, Identity.generate())
        try:
            yield Site(home, broker, journal)
        finally:
            await journal.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_kill_9_of_the_projector_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        projector = here.projector()
        await projector.start()
        try:
            async with here.writing(), Queries(here.url) as tables:
                for kills in (1, 2, 3):
                    await tables.wait_for(await tables.position() + 500, LONG_S)  # it is folding
                    assert projector.pid is not None
                    os.kill(projector.pid, signal.SIGKILL)
                    await until(lambda: len(here.restarts) == kills)  # noqa: B023 - awaited at once
            await here.caught_up()
            assert here.restarts == ["killed by SIGKILL"] * 3
            found = await verify_rebuild(here.url, here.reader)
            assert found.live.position == here.journal.position
            assert found.identical, found.differing
        finally:
            await projector.stop()


async def test_a_rebuild_beside_the_running_projector_loses_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        projector = here.projector()
        await here.write(3000)
        await projector.start()
        try:
            async with here.writing():
                await asyncio.gather(*(rebuild(here.url, here.reader) for _ in range(2)))
            await here.caught_up()
            assert here.restarts == []
            async with Queries(here.url) as tables:
                _, rows = await tables.sql("SELECT DISTINCT rebuilds FROM projection_checkpoints")
            assert rows == [(2,)]
            found = await verify_rebuild(here.url, here.reader)
            assert found.live.position == here.journal.position
            assert found.identical, found.differing
        finally:
            await projector.stop()


async def test_the_projector_waits_for_a_broker_that_restarts(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        projector = here.projector()
        await projector.start()
        try:
            pid = projector.pid
            await here.write(200)
            await here.caught_up()
            assert here.broker.pid is not None
            os.kill(here.broker.pid, signal.SIGKILL)
            await here.write(200)
            await here.caught_up()
            assert projector.pid == pid
            assert here.restarts == []
        finally:
            await projector.stop()


async def test_what_is_stored_when_the_projector_is_told_to_stop_is_in_the_tables_when_it_ends(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        projector = here.projector()
        await projector.start()
        await here.write(300)
        await projector.stop()
        async with Queries(here.url) as tables:
            assert await tables.position() == here.journal.position


async def test_a_projector_whose_broker_is_gone_stops_soon_and_says_what_it_lacks(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        projector = here.projector()
        await projector.start()
        await here.write(10)
        await here.caught_up()
        await here.broker.stop()
        await projector.stop()
        log = (here.home.logs / "projector.log").read_text()
        assert "stopped before all that is stored was projected" in log
        assert here.restarts == []


async def test_the_projector_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        script = (
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from mesh.config import Config\n"
            "from mesh.home import Home\n"
            "from mesh.projections.process import projector_process\n"
            "async def main():\n"
            "    projector = projector_process(Home(Path(sys.argv[1])), Config(), on_restart=lambda *_: None)\n"
            "    await projector.start()\n"
            "    print(projector.pid, flush=True)\n"
            "    await asyncio.Event().wait()\n"
            "asyncio.run(main())\n"
        )
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(here.home.root), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        pid = int(await asyncio.wait_for(parent.stdout.readline(), LONG_S))
        parent.kill()
        await parent.communicate()
        await until(lambda: not is_running(pid))


async def test_a_projector_that_cannot_start_says_why_and_exits_with_the_errors_code(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    projector = projector_process(home, Config(), on_restart=lambda *_: None)
    with pytest.raises(ProjectorFailed, match=r"status 69 before it was ready: no node has run .*log says") as failed:
        await projector.start()
    assert failed.value.exit_code == 69
    await projector.stop()
    assert "no node has run in" in (home.logs / "projector.log").read_text()


async def test_a_journal_that_lost_its_end_stops_the_projector_with_the_position(tmp_path: Path) -> None:
    async with site(tmp_path / "old") as here:
        await here.write(50)
        await rebuild(here.url, here.reader)
        database = here.home.database.read_bytes()
    async with site(tmp_path / "new") as there:
        await there.write(20)
        there.home.database.write_bytes(database)
        projector = there.projector()
        await projector.start()
        await until(lambda: there.restarts != [])
        await projector.stop()
        log = (there.home.logs / "projector.log").read_text()
        assert "the journal ends at position 20, but had been read up to 50" in log
        assert "exited with status 74" in there.restarts[0]
