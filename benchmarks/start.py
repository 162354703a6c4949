"""How long a node takes to know its journal of 500,000 events again: from a snapshot, and without any."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.events import History
from benchmarks.measure import Measure, at_most, timed, watched
from benchmarks.replay import filled_journal
from mesh.clock import SystemClock
from mesh.config import ShareConfig
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.journal import Journal
from mesh.events.live_state import LiveState
from mesh.events.snapshots import SnapshotFiles
from mesh.events.snapshotter import EVERY, Snapshotter
from mesh.events.store_nats import NatsEventStore
from mesh.events.vocabulary.network import PeerDialFailed
from mesh.experts.state import RoutingState
from mesh.health.state import HealthState
from mesh.history import NodeHistory
from mesh.p2p.access_state import AccessState
from mesh.p2p.peer_book import PeerBook
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy

EVENTS = 500_000
# What a crash leaves behind the last snapshot, on average.
BEHIND = EVERY // 2


def run() -> Iterator[Measure]:
    """A life that folds everything and leaves a snapshot, events without one, and the life after it."""
    import uvloop

    took = uvloop.run(_measure())
    yield at_most(
        "journal open with a snapshot 25,000 events ago",
        took["snapshot"],
        "s",
        baseline=f"all {EVENTS:,} events folded",
        against=took["whole"],
        times=0.2,
    )
    yield watched("CPU time to put the states away, 4,096 events unshared", took["pause"] * 1000, "ms")


async def _measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        async with filled_journal(Path(name), EVENTS) as filled:
            files = SnapshotFiles(Path(name) / "snapshots", History().owner)
            whole, pause = await _life(filled.broker, files, stop=True)
            await _life(filled.broker, files, emit=BEHIND)
            after, _ = await _life(filled.broker, files)
    return {"whole": whole, "snapshot": after, "pause": pause}


async def _life(
    broker: EmbeddedBroker, files: SnapshotFiles, *, emit: int = 0, stop: bool = False
) -> tuple[float, float]:
    """Seconds until the journal was open, and seconds of CPU to put all states away."""
    owner = files.owner
    states = _states(owner)
    snapshots = Snapshotter(files, states)
    store = NatsEventStore(broker.address("node"), owner)
    journal = Journal(owner, store, SystemClock(), folds=[state.apply for state in states.values()])
    with timed() as opening:
        await journal.open(snapshots.resume)
    for number in range(emit):
        journal.emit(PeerDialFailed(peer=owner, addresses=(), error="", attempt=number, retry_in_s=0))
        if number % 1000 == 0:
            await journal.stored()
    begun = time.process_time()
    for state in states.values():
        state.saved()
    pause = time.process_time() - begun
    if stop:
        await snapshots.watch(journal)
        await snapshots.stop()
    await journal.close()
    return opening.seconds, pause


def _states(own: str) -> dict[str, LiveState]:
    return {
        "peers": PeerBook(own),
        "history": NodeHistory(own),
        "routing": RoutingState(own),
        "health": HealthState(own),
        "feeds": FeedBook(own, Policy(own, ShareConfig())),
        "access": AccessState(own),
    }
