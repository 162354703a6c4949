"""Signs what happened here for others to have, and tells only what would outlive a power cut."""

from collections.abc import Callable

import structlog

from mesh.clock import Clock
from mesh.errors import BrokerError, JournalBroken
from mesh.events.codec import encode
from mesh.events.envelope import Event
from mesh.events.feed import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, feed_genesis, sign_batch
from mesh.events.journal import Journal
from mesh.events.vocabulary.journal import JournalShared, SignedBatch
from mesh.identity import Identity
from mesh.p2p.sharing.entries import BadEntry, check_entry
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy
from mesh.p2p.sharing.shelf import Shelf

TICK_S = 0.5
log = structlog.get_logger(__name__)


class Publisher:
    """Makes the feed of this node. ``published`` is the newest batch that others may know of."""

    def __init__(
        self,
        journal: Journal,
        book: FeedBook,
        identity: Identity,
        policy: Policy,
        shelf: Shelf,
        clock: Clock,
        *,
        settle_s: float,
        on_published: Callable[[SignedBatch], None],
    ) -> None:
        self._journal = journal
        self._book = book
        self._identity = identity
        self._policy = policy
        self._shelf = shelf
        self._clock = clock
        self._settle_s = settle_s
        self._on_published = on_published
        self._opened = journal.position
        self._least_epoch = 0
        self.published: SignedBatch | None = None

    def begin_anew(self, epoch: int) -> None:
        """Others hold more of our feed than we do: our journal was lost or restored. Begin one beyond ``epoch``."""
        self._least_epoch = max(self._least_epoch, epoch + 1)

    async def run(self) -> None:
        """Publish until cancelled. Raises JournalError when the journal takes no more."""
        await self._clock.sleep(self._settle_s)
        if self._book.mine.newest is not None:
            self._publish(self._book.mine.newest)
        while True:
            if self._due():
                await self._share()
            await self._clock.sleep(TICK_S)

    def _due(self) -> bool:
        now = self._clock.now()
        pending = self._book.pending(self._journal.stored_position)
        return len(pending) >= MAX_BATCH_EVENTS or any(
            not 0 <= now - self._book.waiting_since(event) < self._policy.wait_s(event) for event in pending
        )

    async def _share(self) -> None:
        mine, events, payloads, size = self._book.mine, [], [], 0
        for event in self._book.pending(self._journal.stored_position)[:MAX_BATCH_EVENTS]:
            payload = await self._payload(event)
            if payload is None:
                continue
            size += len(payload)
            if size > MAX_BATCH_BYTES:
                break
            events.append(event)
            payloads.append(payload)
        if not events:
            return
        epoch = self._epoch()
        goes_on = epoch == mine.epoch
        batch = sign_batch(
            self._identity,
            epoch=epoch,
            first=mine.last + 1 if goes_on else 1,
            origin_seq=events[-1].origin_seq,
            prev=mine.link if goes_on else feed_genesis(self._identity.peer_id, epoch),
            payloads=payloads,
        )
        fact = JournalShared(batch=batch, positions=tuple(event.position for event in events))
        emission = self._journal.emit(fact, subject=self._journal.origin)
        self._shelf.keep(emission.event.position, batch, payloads)
        await emission.stored()
        await self._clock.sleep(self._settle_s)
        self._publish(batch)

    def _epoch(self) -> int:
        epoch = self._book.mine.epoch
        if epoch and epoch >= self._least_epoch:
            return epoch
        return max(int(self._clock.now()), self._least_epoch)

    async def _payload(self, event: Event) -> bytes | None:
        """The bytes that are stored, if others would take them; else the event is passed over for good."""
        try:
            fresh = event.position > self._opened
            payload = encode(event).payload if fresh else await self._shelf.payload(event.position)
        except (BrokerError, JournalBroken, ValueError) as error:
            log.warning("an event cannot be read to share it", position=event.position, error=str(error))
            return None  # the broker may be on its way back: it is tried again
        try:
            check_entry(self._journal.origin, payload, 0)
        except BadEntry as error:
            log.warning("an event is not shared", position=event.position, type=event.type, reason=str(error))
            self._book.pass_over(event)
            return None
        return payload

    def _publish(self, batch: SignedBatch) -> None:
        self.published = batch
        self._on_published(batch)
