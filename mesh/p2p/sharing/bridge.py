"""The bridge between this journal and those of the other nodes. Gossip announces, visits fetch, nothing is trusted.

Announcements say how far each node's own feed goes, and by a digest whether two nodes hold the same. Whoever learns
that it lacks something visits a peer that has it; on every new connection both sides look. See `docs/protocol.md`.
"""

import asyncio
import random
from collections.abc import Callable

import structlog

from mesh.clock import Clock
from mesh.config import ShareConfig
from mesh.errors import MeshError, PeerMisbehaved
from mesh.events.feed import contradict, is_signed
from mesh.events.journal import Journal
from mesh.events.store import EventReader
from mesh.events.vocabulary.journal import SignedBatch
from mesh.identity import Identity
from mesh.keeper import Keeper
from mesh.p2p.messages import Hello
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.sharing.claims import Claims
from mesh.p2p.sharing.desk import Desk
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.intake import Intake
from mesh.p2p.sharing.messages import TOPIC, decode_announcement, encode_announcement
from mesh.p2p.sharing.policy import Policy
from mesh.p2p.sharing.publisher import Publisher
from mesh.p2p.sharing.quota import Buckets
from mesh.p2p.sharing.shelf import Shelf
from mesh.p2p.sharing.streams import JournalStreams, Network
from mesh.p2p.sharing.visits import Host, Visits
from mesh.p2p.tasks import TaskOwner

TICK_S = 0.5
# Without news of our own we still say what we hold.
ANNOUNCE_S = 120.0
# Announcements that one node may make at once, and then one in five seconds: its journal has no more to say.
ANNOUNCEMENTS = 30.0
ANNOUNCEMENTS_PER_S = 0.2
# Who held something else so long after it said so is looked at; one peer in this time.
DIFFERS_S = 10.0
LOOK_S = 30.0
VISITS_AT_ONCE = 4
log = structlog.get_logger(__name__)


class Bridge:
    """Shares and takes feeds, from `start` to `stop`. Make it once the journal is open and before `Peers.start`.

    ``sealing`` makes what seals its streams, with the owner of its tasks; None: they are not sealed.
    """

    def __init__(
        self,
        network: Network,
        journal: Journal,
        book: FeedBook,
        policy: Policy,
        reader: EventReader,
        identity: Identity,
        config: ShareConfig,
        hello: Hello,
        *,
        clock: Clock,
        rng_seed: int,
        sealing: Callable[[TaskOwner], Sealing | None] = lambda _tasks: None,
    ) -> None:
        self._network = network
        self._book = book
        self._clock = clock
        self._rng = random.Random(rng_seed)  # noqa: S311 - spreads visits
        self._tasks = TaskOwner()
        self._shelf = Shelf(reader)
        self._publisher = Publisher(
            journal,
            book,
            identity,
            policy,
            self._shelf,
            clock,
            settle_s=config.settle_s,
            on_published=self._on_published,
        )
        self._claims = Claims(book, policy, config.max_origins)
        self._desk = Desk(book, self._publisher, self._shelf, network, clock)
        self._streams = JournalStreams(
            network,
            hello,
            self._desk.handlers,
            clock,
            self._tasks,
            admits=lambda peer: not self._is_banned(peer),
            sealing=sealing(self._tasks),
        )
        self._intake = Intake(journal, book, network, self._shelf, config, clock)
        self._visits = Visits(
            network,
            self._streams,
            self._claims,
            self._intake,
            clock,
            max_page_bytes=hello.limits.max_body_bytes,
            on_own=self._on_own,
            own=identity.peer_id,
        )
        self._hosts: dict[str, Host] = {}
        self._announced_at = float("-inf")
        self._look_at = float("inf")
        self._differing: dict[str, tuple[str, float]] = {}
        self._announcements = Buckets(ANNOUNCEMENTS_PER_S, ANNOUNCEMENTS)
        self.keeper = Keeper("bridge journals")
        network.register(TOPIC, self._heard)

    async def start(self) -> None:
        """Share and take from now on."""
        self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """End; nothing is admitted or answered after this returns."""
        await self.keeper.end()
        await self._tasks.end()

    async def _keep(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publisher.run(), name="publish the feed")
                tasks.create_task(self._watch(), name="watch the feeds of others")
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _watch(self) -> None:
        while True:
            self._meet(self._network.connected())
            self._look()
            self._start_visits()
            if self._clock.monotonic() - self._announced_at >= ANNOUNCE_S:
                await self._announce()
            await self._clock.sleep(TICK_S)

    # -- saying what we hold -----------------------------------------------------------------------------------------

    def _on_published(self, _batch: SignedBatch) -> None:
        self._announced_at = float("-inf")

    async def _announce(self) -> None:
        self._announced_at = self._clock.monotonic()
        try:
            await self._network.gossip(TOPIC, encode_announcement(self._publisher.published, self._book.digest()))
        except MeshError as error:
            log.debug("the journal was not announced", error=str(error))

    # -- hearing what others hold ------------------------------------------------------------------------------------

    def _heard(self, signer: str, data: bytes) -> None:
        """An announcement of ``signer``. Raises PeerMisbehaved."""
        if self._is_banned(signer):
            return
        now = self._clock.monotonic()
        if not self._announcements.of(signer).take(1, now):
            raise PeerMisbehaved("journal_flood", f"more than {ANNOUNCEMENTS:g} announcements at once")
        head, digest = decode_announcement(signer, data)
        if head is not None and not self._intake.compare(head, signer):
            return
        if signer in self._hosts:
            if head is not None:
                self._claims.heard(signer, head)
            self._differing[signer] = (digest, now)
        elif head is not None:
            self._look_at = min(self._look_at, now + DIFFERS_S / 2)  # somebody who is connected may have it

    def _on_own(self, head: SignedBatch) -> None:
        """A peer shows what we ourselves signed. If we do not know of it, our journal is not what it was."""
        mine = self._book.mine
        if not is_signed(head):
            return
        newer = (head.epoch, head.last) > (mine.epoch, mine.last)
        if newer or any(contradict(known, head) for known in mine.recent):
            log.warning("others hold more of this node's feed than its journal does: a new feed begins")
            self._publisher.begin_anew(head.epoch)

    def _meet(self, connected: frozenset[str]) -> None:
        for peer in self._hosts.keys() - connected:
            del self._hosts[peer]
            self._claims.forget(peer)
            self._differing.pop(peer, None)
        for peer in connected - self._hosts.keys():
            if self._is_banned(peer):
                self._network.drop(peer, "it broke the rules of the journal protocol")
            else:
                self._hosts[peer] = Host()

    def _look(self) -> None:
        """Now and then ask one peer, who said that it holds something else than we do, what that is."""
        now = self._clock.monotonic()
        if now >= self._look_at and self._hosts:
            self._look_at = float("inf")
            self._hosts[self._rng.choice(sorted(self._hosts))].ask_heads = True
        old = [peer for peer, (_, at) in self._differing.items() if now - at >= DIFFERS_S]
        if not old:
            return
        own = self._book.digest()
        for peer in old:
            digest, _ = self._differing.pop(peer)
            if digest != own:
                self._look_at = min(self._look_at, now + self._rng.uniform(0, LOOK_S))

    def _start_visits(self) -> None:
        now, wall = self._clock.monotonic(), self._clock.now()
        for peer, host in self._hosts.items():
            if sum(each.busy for each in self._hosts.values()) >= VISITS_AT_ONCE:
                return
            if host.busy or host.next_at > now:
                continue
            if host.ask_heads or self._claims.wanted(peer, wall):
                host.busy = True
                self._tasks.start(self._visit(peer, host), f"visit the journal of {peer}")

    async def _visit(self, peer: str, host: Host) -> None:
        try:
            await self._visits.visit(peer, host)
        finally:
            host.busy = False

    def _is_banned(self, peer: str) -> bool:
        return self._book.is_banned(peer, self._clock.now())
