"""Goes to peers for what is missing here: feed by feed, page by page, in order."""

from collections.abc import Callable

import structlog
from pydantic import JsonValue

from mesh.clock import Clock
from mesh.errors import PeerMisbehaved
from mesh.events.vocabulary.journal import SignedBatch
from mesh.p2p.calling import Calling
from mesh.p2p.calls import CallFailed
from mesh.p2p.overlay import OverlayDown, StreamRefused
from mesh.p2p.session import SessionRefused
from mesh.p2p.sharing.claims import Claims
from mesh.p2p.sharing.intake import Intake
from mesh.p2p.sharing.messages import HEADS, MAX_PAGE_BYTES, RANGE, decode_heads, decode_page
from mesh.p2p.sharing.streams import JournalStreams, Network

CALL_S = 20.0
RETRY_MIN_S = 2.0
RETRY_MAX_S = 600.0
log = structlog.get_logger(__name__)


class Host:
    """A connected peer: when it was asked for the ends of its feeds, and when it may be visited next."""

    def __init__(self) -> None:
        self.ask_heads = True
        self.busy = False
        self.next_at = 0.0
        self.retry_s = RETRY_MIN_S


class Visits:
    """Makes visits; no feed is fetched from two peers at a time."""

    def __init__(
        self,
        network: Network,
        streams: JournalStreams,
        claims: Claims,
        intake: Intake,
        clock: Clock,
        *,
        max_page_bytes: int,
        on_own: Callable[[SignedBatch], None],
        own: str,
    ) -> None:
        self._network = network
        self._streams = streams
        self._claims = claims
        self._intake = intake
        self._clock = clock
        self._page_bytes = min(max_page_bytes, MAX_PAGE_BYTES)
        self._on_own = on_own
        self._own = own
        self._fetching: set[str] = set()

    async def visit(self, peer: str, host: Host) -> None:
        """One visit, whatever comes of it."""
        try:
            async with self._streams.open(peer) as calling:
                if host.ask_heads:
                    await self._ask_heads(peer, calling)
                    host.ask_heads = False
                for head in self._claims.wanted(peer, self._clock.now()):
                    await self._fetch(peer, head, calling)
        except (CallFailed, StreamRefused, SessionRefused, OverlayDown) as failure:
            log.debug("a peer was not visited", peer=peer, why=failure.what)
            self._put_off(host)
        except PeerMisbehaved as fault:
            self._network.misbehaved(peer, fault.rule, fault.what)
            self._put_off(host)
        else:
            host.retry_s = RETRY_MIN_S

    def _put_off(self, host: Host) -> None:
        host.next_at = self._clock.monotonic() + host.retry_s
        host.retry_s = min(2 * host.retry_s, RETRY_MAX_S)

    async def _ask_heads(self, peer: str, calling: Calling) -> None:
        reply = await (calling.sealed or calling).call(HEADS, {}, b"", CALL_S, None)
        for head in decode_heads(reply.body):
            if head.origin == self._own:
                self._on_own(head)
            elif self._intake.compare(head, peer):
                self._claims.heard(peer, head)

    async def _fetch(self, peer: str, head: SignedBatch, calling: Calling) -> None:
        if head.origin in self._fetching or not self._intake.check(head, peer):
            return
        self._fetching.add(head.origin)
        try:
            while not self._intake.reached(head):
                if not await self._fetch_page(peer, head, calling):
                    self._claims.drop(peer, head.origin)
                    return
        finally:
            self._fetching.discard(head.origin)

    async def _fetch_page(self, peer: str, head: SignedBatch, calling: Calling) -> bool:
        """Whether there is reason to ask the peer for the next page."""
        begin = self._intake.begin(head)
        header: dict[str, JsonValue] = {
            "origin": head.origin,
            "epoch": head.epoch,
            "from": begin,
            "max_bytes": self._page_bytes,
        }
        reply = await (calling.sealed or calling).call(RANGE, header, b"", CALL_S, None)
        page = decode_page(reply.body)
        _require_asked(head, begin, [batch for batch, _ in page])
        for batch, payloads in page:
            await self._intake.room(batch.origin, len(payloads))
            if not self._intake.take(batch, payloads, peer, begin):
                return False
        return bool(page)


def _require_asked(head: SignedBatch, begin: int, batches: list[SignedBatch]) -> None:
    """A page holds what was asked for, from there on and without gaps; anything else is an old one, or made up."""
    wanted = begin
    for number, batch in enumerate(batches):
        goes_on = batch.first == wanted or (number == 0 and batch.first <= begin <= batch.last)
        if (batch.origin, batch.epoch) != (head.origin, head.epoch) or not goes_on:
            said = f"{batch.first} to {batch.last} of {batch.origin}"
            raise PeerMisbehaved("journal_replayed", f"asked for {wanted} of {head.origin}, it sent {said}")
        wanted = batch.last + 1
