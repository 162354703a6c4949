"""Reading a node's journal from outside the node, whether it runs or not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.clock import SystemClock
from mesh.config import Config
from mesh.errors import HomeInUse
from mesh.events.broker import BrokerAddress
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.broker_external import ExternalBroker
from mesh.events.reader_nats import NatsEventReader
from mesh.events.readers import credentials_file, load_credentials
from mesh.events.snapshots import SnapshotFiles
from mesh.home import Home, HomeLock


def snapshot_files(home: Home, config: Config, owner: str) -> SnapshotFiles:
    """The snapshots of the live states of the node ``owner``, folded under these settings."""
    return SnapshotFiles(home.snapshots, owner, settings=repr((config.health.window, config.share)))


@asynccontextmanager
async def journal_address(home: Home, config: Config) -> AsyncIterator[BrokerAddress]:
    """Where the journal can be read: at the running node's broker, or at one started for as long as this lasts.

    Raises NodeUnreachable when no node has ever run in ``home``.
    """
    home.require_node()
    if not credentials_file(home, "node").exists() and not home.broker.joinpath("store").exists():
        raise home.never_ran()
    if config.broker.url:
        external = ExternalBroker(config.broker, home)
        await external.start()
        try:
            yield external.address("operator")
        finally:
            await external.stop()
        return
    try:
        with HomeLock(home, "reading the journal"):
            broker = EmbeddedBroker(home, config.broker, on_restart=lambda *_: None, clock=SystemClock())
            await broker.start()
            try:
                yield broker.address("operator")
            finally:
                await broker.stop()
    except HomeInUse:
        yield load_credentials(home, "operator")


@asynccontextmanager
async def journal_reader(home: Home, config: Config) -> AsyncIterator[NatsEventReader]:
    """A reader of the journal; see `journal_address`."""
    async with journal_address(home, config) as address:
        yield NatsEventReader(address)
