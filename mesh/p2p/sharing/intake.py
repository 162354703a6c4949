"""Takes batches into the journal: judged, within the quotas, each fault recorded and its author cut off."""

import structlog

from mesh.clock import Clock
from mesh.config import ShareConfig
from mesh.events.journal import Journal
from mesh.events.vocabulary.journal import EquivocationFound, JournalReceived, SignedBatch
from mesh.events.vocabulary.network import PeerRefused
from mesh.p2p.sharing.acceptance import Accept, Equivocation, Fault, Gap, Known, begin_at, judge, judge_statement
from mesh.p2p.sharing.feeds import Feed, FeedBook
from mesh.p2p.sharing.quota import Buckets
from mesh.p2p.sharing.shelf import Shelf
from mesh.p2p.sharing.streams import Network

# Minutes of the allowance that may come at once: a node that was away catches up quickly.
_BURST_MINUTES = 5
# The journal has this much to store already: take no more for now.
MAX_BACKLOG = 5000
_PAUSE_S = 0.05
log = structlog.get_logger(__name__)


class Intake:
    """The only way for foreign events into the journal."""

    def __init__(
        self, journal: Journal, book: FeedBook, network: Network, shelf: Shelf, config: ShareConfig, clock: Clock
    ) -> None:
        self._journal = journal
        self._book = book
        self._network = network
        self._shelf = shelf
        self._config = config
        self._clock = clock
        self._rates = Buckets(config.events_per_minute / 60, config.events_per_minute * _BURST_MINUTES)
        self._full: set[str] = set()

    def begin(self, head: SignedBatch) -> int:
        """The next feed sequence that is wanted of the feed that ``head`` is the end of."""
        return begin_at(self._feed(head), head, history=self._config.history, catch_up=self._config.catch_up)

    def reached(self, head: SignedBatch) -> bool:
        """Whether the journal holds the feed up to ``head``, or beyond."""
        feed = self._feed(head)
        return (feed.epoch, feed.last) >= (head.epoch, head.last)

    def check(self, head: SignedBatch, carrier: str) -> bool:
        """Whether what ``carrier`` shows is signed, and contradicts nothing; what is wrong is recorded."""
        problem = judge_statement(self._feed(head), head, carrier)
        if problem is not None:
            self._punish(problem, carrier)
        return problem is None

    def compare(self, head: SignedBatch, carrier: str) -> bool:
        """Whether what ``carrier`` shows fits what is remembered of the feed; looks at the signature only if not."""
        feed = self._book.feeds.get(head.origin)
        if feed is None or feed.cut or head.epoch != feed.epoch or feed.contradicted_by(head) is None:
            return True
        return self.check(head, carrier)

    def take(self, batch: SignedBatch, payloads: list[bytes], carrier: str, begin: int) -> bool:
        """Record a batch if it is what comes next; returns whether to go on with what follows it."""
        verdict = judge(self._feed(batch), batch, payloads, carrier, begin=begin)
        match verdict:
            case Accept():
                return self._admit(verdict, carrier)
            case Known():
                return True
            case Gap(wanted):
                log.debug("a batch is too far on", origin=batch.origin, first=batch.first, wanted=wanted)
                return False
            case Fault() | Equivocation():
                self._punish(verdict, carrier)
                return False

    async def room(self, origin: str, events: int) -> None:
        """Return when ``events`` more of the origin may be taken."""
        while self._journal.backlog > MAX_BACKLOG:
            await self._clock.sleep(_PAUSE_S)
        bucket = self._rates.of(origin)
        while not bucket.take(events, self._clock.monotonic()):
            await self._clock.sleep(max(_PAUSE_S, bucket.wait_s(events, self._clock.monotonic())))

    def _admit(self, accepted: Accept, carrier: str) -> bool:
        batch, size = accepted.batch, sum(map(len, accepted.payloads))
        feed = self._feed(batch)
        limits = (
            ("journal_size", self._config.max_bytes_per_origin, feed.size + size),
            ("journal_size_of_all", self._config.max_bytes, self._book.size + size),
        )
        for rule, limit, value in limits:
            if value > limit:
                self._refuse(batch.origin, rule, limit, value)
                return False
        receipt = JournalReceived(batch=batch, carrier=carrier, held=accepted.held, size=size)
        emission = self._journal.admit(receipt, accepted.payloads, subject=batch.origin)
        if not accepted.held:
            position = emission.event.position - len(accepted.payloads)
            self._shelf.keep(position, batch, list(accepted.payloads))
        return True

    def _refuse(self, origin: str, rule: str, limit: int, value: int) -> None:
        """Said once in the life of the process: the feed stays where it is."""
        if origin not in self._full:
            self._full.add(origin)
            fact = PeerRefused(peer=origin, address="", rule=rule, limit=f"{limit} bytes", value=f"{value} bytes")
            self._journal.emit(fact, subject=origin)

    def _punish(self, problem: Fault | Equivocation, carrier: str) -> None:
        if isinstance(problem, Fault):
            self._network.misbehaved(problem.peer, problem.rule, problem.detail)
            return
        origin = problem.one.origin
        if self._book.is_cut(origin):
            return
        fact = EquivocationFound(
            peer=origin, carrier=carrier, one=problem.one, other=problem.other, detail=problem.detail
        )
        self._journal.emit(fact, subject=origin)
        self._network.misbehaved(origin, "journal_equivocation", f"it signed both {problem.detail}")

    def _feed(self, batch: SignedBatch) -> Feed:
        return self._book.feeds.get(batch.origin) or Feed(batch.origin)
