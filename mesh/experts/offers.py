"""Who serves what: telling the others, learning from them, and forgetting what is not renewed.

Gossip is quick and is not trusted to arrive, so that what must be known is also pulled: from a peer as soon as it
is connected, and again whenever nothing was heard of it for a while. What a peer says counts for that peer alone.
"""

import asyncio

import structlog
from pydantic import JsonValue

from mesh.clock import Clock
from mesh.errors import MeshError, PeerMisbehaved
from mesh.events.envelope import Event, Fact
from mesh.events.journal import Journal
from mesh.events.vocabulary.experts import ExpertExpired, ExpertOffered
from mesh.events.vocabulary.network import PeerConnected, PeerDisconnected
from mesh.events.vocabulary.network import PeerMisbehaved as Misbehaved
from mesh.experts.known import Offer
from mesh.experts.offer_news import is_news
from mesh.experts.ports import Gossip, Introductions, LocalAsk
from mesh.experts.state import RoutingState
from mesh.experts.wire_offers import MAX_VALID_S, OFFERS, decode_answer, decode_offers, encode_offers
from mesh.keeper import Keeper
from mesh.p2p.calls import CallFailed, InboundCall, Reply
from mesh.p2p.tasks import TaskOwner

TOPIC = "offers"
# An offer is believed for this many intervals; it is recorded anew when half of that is over.
VALID_INTERVALS = 9
# A peer that was not heard of for this many intervals is asked.
QUIET_INTERVALS = 4.5
# What changed is told twice, an interval apart, and then only after so many: two of those and a pull are within the
# time that it is valid.
RENEW_INTERVALS = 3.5
TELL_TIMES = 2
TICK_S = 1.0
# No more often than this are the offers of one peer recorded, or ours announced, whatever changes.
SPACING_S = 1.0
FIRST_RETRY_S = 0.1
PULL_TIMEOUT_S = 5.0
PULLS_AT_ONCE = 8
_NO_HEADER: dict[str, JsonValue] = {}

log = structlog.get_logger(__name__)


class _Peer:
    """When a connected peer was last heard of, and when to ask it."""

    def __init__(self, now: float) -> None:
        self.heard_at = float("-inf")
        self.pull_at = now
        self.retry_s = FIRST_RETRY_S
        self.pulling = False


class OfferBoard:
    """Keeps this node's picture of all offers, as events. Make it before `Peers.start`, then `start` it."""

    def __init__(
        self,
        peers: Gossip,
        local: LocalAsk,
        journal: Journal,
        state: RoutingState,
        *,
        interval_s: float,
        clock: Clock,
        introductions: Introductions | None = None,
    ) -> None:
        self._journal = journal
        self._state = state
        self._local = local
        self._network = peers
        self._introductions = introductions
        self._peer_id = journal.origin
        self._interval_s = interval_s
        self._clock = clock
        self._peers: dict[str, _Peer] = {}
        self._tasks = TaskOwner()
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE)
        self._wake = asyncio.Event()
        self.keeper = Keeper("keep offers")
        self._announced: frozenset[str] = frozenset()
        self._announced_at = float("-inf")
        self._news = False
        self._told = b""
        self._told_times = 0
        journal.listen(self._hear_journal)
        peers.serve(OFFERS, self._serve)
        peers.register(TOPIC, self.heard)

    def changed(self) -> None:
        """This node's own experts came, went or changed: tell the others now."""
        self._wake.set()

    async def start(self) -> None:
        """Announce what this node serves, and go on announcing, pulling and expiring until `stop`."""
        self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """End; nothing of it runs when this returns."""
        await self.keeper.end()
        await self._tasks.end()

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            self._note_own()
            self._expire()
            self._start_pulls()
            await self._announce()
            await self._wait()

    def heard(self, signer: str, data: bytes) -> None:
        """Offers that ``signer`` gossips. Raises PeerMisbehaved."""
        offers = decode_offers(signer, data)
        peer = self._peers.get(signer)
        if peer is not None:
            self._take(signer, peer, offers)

    # -- our own -----------------------------------------------------------------------------------------------

    @property
    def _valid_s(self) -> float:
        return min(VALID_INTERVALS * self._interval_s, MAX_VALID_S)

    def _note_own(self) -> None:
        """The load of our own experts is an event as well: a decision reads nothing but the journal."""
        known = self._state.offers.get(self._peer_id, {})
        for offer in self._local.offers():
            before = known.get(offer.expert)
            if is_news(before, offer, self._clock.now()) and self._spaced(before):
                self._record(offer, self._peer_id)
                self._news = True

    async def _announce(self) -> None:
        names = frozenset(offer.expert for offer in self._local.offers())
        news = self._news or names != self._announced
        since_s = self._clock.monotonic() - self._announced_at
        if since_s < (SPACING_S if news else self._interval_s):
            return
        encoded = self._encoded()
        self._told_times = self._told_times + 1 if encoded == self._told else 1
        if self._told_times > TELL_TIMES and since_s < RENEW_INTERVALS * self._interval_s:
            return
        self._announced, self._announced_at, self._news = names, self._clock.monotonic(), False
        self._told = encoded
        try:
            await self._network.gossip(TOPIC, encoded)
        except MeshError as error:
            log.debug("offers were not gossiped", error=str(error))

    def _encoded(self) -> bytes:
        return encode_offers(self._peer_id, self._local.offers(), self._valid_s)

    async def _serve(self, call: InboundCall) -> Reply:
        """Who asks is told of other nodes as well; gossip, which goes to everybody all the time, stays small."""
        if self._introductions is None:
            return Reply(_NO_HEADER, self._encoded())
        known = self._introductions.tell(call.peer)
        return Reply(_NO_HEADER, encode_offers(self._peer_id, self._local.offers(), self._valid_s, known))

    # -- those of others -----------------------------------------------------------------------------------------

    def _hear_journal(self, event: Event) -> None:
        fact = event.fact
        if isinstance(fact, PeerConnected) and fact.peer not in self._peers:
            self._peers[fact.peer] = _Peer(self._clock.monotonic())
            self._wake.set()
        elif isinstance(fact, PeerDisconnected):
            self._peers.pop(fact.peer, None)
            self._withdraw(fact.peer, tuple(self._state.offers.get(fact.peer, ())), "the peer is not connected")

    def _take(self, peer_id: str, peer: _Peer, offers: list[ExpertOffered]) -> None:
        now = self._clock.monotonic()
        if now - peer.heard_at < SPACING_S:
            peer.pull_at = min(peer.pull_at, peer.heard_at + SPACING_S)
            return
        peer.heard_at, peer.retry_s = now, FIRST_RETRY_S
        peer.pull_at = now + min(QUIET_INTERVALS * self._interval_s, MAX_VALID_S / 3)
        known = self._state.offers.get(peer_id, {})
        served = {offer.expert for offer in offers}
        self._withdraw(peer_id, tuple(expert for expert in known if expert not in served), "withdrawn")
        for offer in offers:
            if is_news(known.get(offer.expert), offer, self._clock.now()):
                self._record(offer, peer_id)

    def _withdraw(self, peer: str, experts: tuple[str, ...], reason: str) -> None:
        for expert in experts:
            self._record(ExpertExpired(peer=peer, expert=expert, reason=reason), peer)

    def _expire(self) -> None:
        now = self._clock.now()
        for peer, offers in list(self._state.offers.items()):
            over = tuple(expert for expert, offer in offers.items() if offer.expires_at and offer.expires_at <= now)
            self._withdraw(peer, over, "not renewed")

    def _start_pulls(self) -> None:
        now = self._clock.monotonic()
        for peer_id, peer in self._peers.items():
            if not peer.pulling and now >= peer.pull_at:
                peer.pulling = True
                self._tasks.start(self._pull(peer_id, peer), f"pull offers of {peer_id}")

    async def _pull(self, peer_id: str, peer: _Peer) -> None:
        try:
            async with self._pulls:
                reply = await self._network.call(peer_id, OFFERS, _NO_HEADER, b"", timeout=PULL_TIMEOUT_S)
            offers, introduced = decode_answer(peer_id, reply.body)
            if self._peers.get(peer_id) is peer:
                self._take(peer_id, peer, offers)
                if self._introductions is not None:
                    self._introductions.hear(peer_id, introduced)
        except CallFailed as failure:
            log.debug("offers were not pulled", peer=peer_id, kind=failure.kind, message=failure.message)
            self._retry(peer)
        except PeerMisbehaved as fault:
            self._record(Misbehaved(peer=peer_id, address="", rule=fault.rule, detail=fault.what), peer_id)
            self._retry(peer, at_least=self._interval_s)
        finally:
            peer.pulling = False
            self._wake.set()

    def _retry(self, peer: _Peer, at_least: float = 0.0) -> None:
        peer.retry_s = min(max(2 * peer.retry_s, at_least), self._interval_s)
        peer.pull_at = self._clock.monotonic() + peer.retry_s

    # -- both ------------------------------------------------------------------------------------------------------

    def _spaced(self, known: Offer | None) -> bool:
        return known is None or self._clock.now() - known.offered_at >= SPACING_S

    def _record(self, fact: Fact, peer: str) -> None:
        self._journal.emit(fact, subject=peer)

    async def _wait(self) -> None:
        """Until something is due, or something happened."""
        now = self._clock.monotonic()
        due = [peer.pull_at - now for peer in self._peers.values() if not peer.pulling]
        seconds = max(0.01, min([TICK_S, self._interval_s, *due]))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
