"""The node's journal and what is folded from it while the node runs: it is open before anything that writes to it."""

import structlog

from mesh import __version__
from mesh.clock import Clock
from mesh.config import Config
from mesh.errors import JournalError
from mesh.events.broker import Broker
from mesh.events.envelope import Fact
from mesh.events.head_file import load_head
from mesh.events.journal import Emission, Journal
from mesh.events.live_state import LiveState
from mesh.events.sealer import Sealer
from mesh.events.snapshotter import Snapshotter
from mesh.events.store_nats import NatsEventStore
from mesh.events.vocabulary.node import NodeStarted, NodeStopped
from mesh.experts.requests import recover
from mesh.experts.state import RoutingState
from mesh.health.state import HealthState
from mesh.history import NodeHistory
from mesh.home import Home
from mesh.identity import Identity
from mesh.journals import snapshot_files
from mesh.keeper import Keeper
from mesh.node.lifetime import Lifetime
from mesh.p2p.access_state import AccessState
from mesh.p2p.peer_book import PeerBook
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy

# For how long an event may be on its way to the store while the node stops.
_PATIENCE_S = 10.0
log = structlog.get_logger(__name__)


class Journaling:
    """The journal with its live states. ``reason`` is why the node stops, for the last event."""

    def __init__(self, home: Home, config: Config, identity: Identity, broker: Broker, clock: Clock) -> None:
        peer_id = identity.peer_id
        self.reason = "the start failed"
        self.history = NodeHistory(peer_id)
        self.peer_book = PeerBook(peer_id)
        self.routing = RoutingState(local=peer_id)
        self.health = HealthState(node=peer_id, window=config.health.window)
        self.access = AccessState(local=peer_id)
        self.share_policy = Policy(peer_id, config.share)
        self.feeds = FeedBook(peer_id, self.share_policy)
        self.store = NatsEventStore(
            broker.address("node"),
            peer_id,
            durability=config.broker.durability,
            max_bytes=config.broker.max_bytes,
            replicas=config.broker.replicas,
            known=load_head(home.journal_head),
            complaint=broker.complaint,
        )
        states: dict[str, LiveState] = {
            "peers": self.peer_book,
            "history": self.history,
            "routing": self.routing,
            "health": self.health,
            "feeds": self.feeds,
            "access": self.access,
        }
        self._snapshots = Snapshotter(snapshot_files(home, config, peer_id), states)
        self.journal = Journal(peer_id, self.store, clock, folds=[state.apply for state in states.values()])
        self._sealer = Sealer(self.journal, identity, home, clock=clock)
        self._patience = Keeper("wait for the broker no longer")
        self._clock = clock

    async def open(self, life: Lifetime, name: str) -> None:
        """Resume from what is stored, and record that the node called ``name`` has started. Raises JournalError."""
        life.finally_await(self._patience.end)
        life.finally_await(self.journal.close)
        resumed_from = await self.journal.open(self._snapshots.resume)
        life.first_call(lambda: self._patience.begin(self._lose_patience()))
        await self._snapshots.watch(self.journal)
        life.finally_await(self._snapshots.stop)
        life.watch(self._snapshots.keeper.task)
        life.watch_for(self.store.failure(), "watch the journal")
        clean, epoch = self.history.clean, self.history.epoch + 1
        self.emit(NodeStarted(epoch=epoch, name=name, release=__version__, resumed_from=resumed_from, clean=clean))
        interrupted = recover(self.routing, self.journal)
        await self.journal.stored()
        await life.begin_kept(self._sealer)
        life.finally_await(self._say_goodbye)
        log.info("journal open", resumed_from=resumed_from, epoch=epoch, clean=clean, interrupted=interrupted)

    def emit(self, fact: Fact) -> Emission:
        """Record a fact about this node."""
        return self.journal.emit(fact, subject=self.journal.origin)

    async def _lose_patience(self) -> None:
        """A node that stops does not wait for a broker that is away: what it owes for so long is given up."""
        owed = 0
        while not owed or self.journal.stored_position >= owed:
            owed = self.journal.stored_position + 1 if self.journal.backlog else 0
            await self._clock.sleep(_PATIENCE_S)
        self.store.give_up(f"the broker stored nothing for {_PATIENCE_S:g} s while the node stopped")

    async def _say_goodbye(self) -> None:
        try:
            await self.emit(NodeStopped(reason=self.reason)).stored()
        except JournalError as error:
            log.warning("the last event could not be stored", error=str(error))
