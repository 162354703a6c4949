"""The projector: a process that folds the journal into the tables for as long as it lives.

``python -m mesh.projections.worker --home DIR``. It reads the node's settings and credentials from its home,
brings the schema up to date, rebuilds what another release folded, then follows the journal. With
``--ready-fd N`` it writes a line to that descriptor once it follows.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, closing, suppress
from pathlib import Path
from typing import cast

import structlog

from mesh.config import load_config
from mesh.errors import BrokerError, MeshError, NodeUnreachable
from mesh.events.envelope import Record
from mesh.events.reader_nats import NatsEventReader
from mesh.events.readers import load_credentials
from mesh.events.store import EventReader
from mesh.home import Home
from mesh.logs import configure_logging
from mesh.projections.catch_up import catch_up, collecting_rarely
from mesh.projections.database import database_url, explained, writer_engine
from mesh.projections.migrate import migrate
from mesh.projections.process import LAST_WORDS, READY
from mesh.projections.rebuild import rebuild_stale
from mesh.projections.runner import CheckpointMoved, Runner
from mesh.projections.write_ahead import WriteAheadLog

# How long it goes on, once it is told to stop, with what is stored and not in the tables yet.
LAST_S = 2.0
log = structlog.get_logger(__name__)


async def project(url: str, reader: EventReader, on_ready: Callable[[], None] = lambda: None) -> None:
    """Keep the tables at ``url`` up to date until cancelled. Raises JournalBroken, DatabaseUnusable or BrokerError."""
    engine = writer_engine(url)
    try:
        migrate(engine)
        if rebuilt := await rebuild_stale(url, reader):
            log.info("tables rebuilt", tables=rebuilt)
        runner = Runner(engine)
        with explained(engine), closing(WriteAheadLog(engine)) as log_of_writes:
            log.info("projecting", position=runner.open())
            on_ready()
            try:
                while True:
                    await _keep_up(runner, reader, log_of_writes)
            except asyncio.CancelledError:
                await _finish(runner, reader)
                raise
    finally:
        engine.dispose()


async def _keep_up(runner: Runner, reader: EventReader, log_of_writes: WriteAheadLog) -> None:
    """Fold what is stored and what comes, until somebody else moves the tables."""
    try:
        with suppress(BrokerError):  # a broker that is away comes back: following waits for it
            await catch_up(runner, reader)
        batches = cast("AsyncGenerator[list[Record]]", reader.follow(runner.position + 1))
        async with aclosing(batches):
            async for records in batches:
                runner.apply(records)
                log_of_writes.tend()
    except CheckpointMoved as moved:
        log.info("the tables were moved by somebody else", position=moved.position)


async def _finish(runner: Runner, reader: EventReader) -> None:
    """Fold what is stored by now, the node's last word too, as far as there is time."""
    try:
        async with asyncio.timeout(LAST_S):
            while not await _caught_up(runner, reader):
                pass
    except (TimeoutError, BrokerError) as error:
        reason = str(error) or type(error).__name__
        log.warning("stopped before all that is stored was projected", position=runner.position, reason=reason)


async def _caught_up(runner: Runner, reader: EventReader) -> bool:
    """Whether all that is stored is in the tables, and nobody moved them meanwhile."""
    try:
        await catch_up(runner, reader)
    except CheckpointMoved as moved:
        log.info("the tables were moved by somebody else", position=moved.position)
        return False
    return True


async def run(home: Home, ready_fd: int | None) -> None:
    """The process, until it is cancelled."""
    config = load_config(home.root)
    configure_logging(config.log)
    try:
        address = load_credentials(home, "node")
    except FileNotFoundError:
        raise NodeUnreachable(f"no node has run in {home.root}", remedy="Start it with `mesh up`.") from None

    def tell_ready() -> None:
        if ready_fd is not None:
            os.write(ready_fd, READY)

    await project(database_url(home, config.storage), NatsEventReader(address), tell_ready)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT (exit code 0), or until it cannot go on (the error's own exit code)."""
    parser = argparse.ArgumentParser(prog="mesh.projections.worker", description="Folds the journal into tables.")
    parser.add_argument("--home", type=Path, required=True, help="the node's home")
    parser.add_argument("--ready-fd", type=int, help="where to write a line once it follows the journal")
    options = parser.parse_args(arguments)
    try:
        with collecting_rarely(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_told_to_stop(run(Home(options.home), options.ready_fd)))
    except MeshError as error:
        print(f"{LAST_WORDS}{error}", file=sys.stderr, flush=True)  # noqa: T201 - its log
        return error.exit_code
    return 0


async def _until_told_to_stop(work: Coroutine[None, None, None]) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
