"""A real nats-server in a temporary home, and a journal on it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.clock import SystemClock
from mesh.config import BrokerConfig
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.journal import Fold, Journal
from mesh.events.store_nats import NatsEventStore
from mesh.home import Home
from mesh.identity import Identity

CLOCK = SystemClock()


def embedded(
    home: Path, *, restarts: list[str] | None = None, probe_interval_s: float = 5.0, **config: Any
) -> EmbeddedBroker:
    """A broker that is not started; ``restarts`` collects the reason of every restart."""
    heard = restarts if restarts is not None else []
    return EmbeddedBroker(
        Home(home),
        BrokerConfig(**config),
        on_restart=lambda reason, _count, _down_ms: heard.append(reason),
        clock=CLOCK,
        probe_interval_s=probe_interval_s,
    )


@asynccontextmanager
async def running_broker(home: Path, **config: Any) -> AsyncIterator[EmbeddedBroker]:
    """A broker that runs for as long as the block; what it stored stays in ``home``."""
    broker = embedded(home, **config)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def open_journal(broker: EmbeddedBroker, identity: Identity, folds: Iterable[Fold] = (), **store: Any) -> Journal:
    """An open journal of ``identity`` on ``broker``; the caller closes it."""
    nats = NatsEventStore(broker.address("node"), identity.peer_id, complaint=broker.complaint, **store)
    journal = Journal(identity.peer_id, nats, CLOCK, folds=folds)
    await journal.open()
    return journal
