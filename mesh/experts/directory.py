"""Experts beyond those whom this node knows: looked up in the DHT by domain, and ours put there for others to find.

What is found is a hint to dial. Whether there is an expert is for its peer to say, when it is connected and asked for
its offers; so a directory that lies, is stale or does not answer costs a few seconds, and nothing depends on it.
"""

import asyncio

import structlog

from mesh.clock import Clock
from mesh.errors import MeshError
from mesh.events.envelope import Event
from mesh.events.journal import Journal
from mesh.events.vocabulary.experts import ExpertOffered, ExpertsSought
from mesh.experts.ports import Finder, Introductions, LocalAsk
from mesh.experts.state import RoutingState
from mesh.keeper import Keeper
from mesh.p2p.tasks import TaskOwner

LOOKUP_S = 3.0
# How long the found are given to be dialled and to say what they serve.
ANSWER_S = 4.0
# A domain is not looked for again before.
AGAIN_S = 30.0
MAX_DIALLED = 8
_MAX_DOMAINS = 256
_TICK_S = 5.0

log = structlog.get_logger(__name__)


class Directory:
    """Publishes what this node serves, and seeks what nobody it knows does."""

    def __init__(
        self,
        finder: Finder,
        introductions: Introductions,
        local: LocalAsk,
        journal: Journal,
        state: RoutingState,
        *,
        clock: Clock,
    ) -> None:
        self._finder = finder
        self._introductions = introductions
        self._local = local
        self._journal = journal
        self._state = state
        self._clock = clock
        self._published: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._offered = asyncio.Event()
        self._sought: dict[str, float] = {}
        self._seeking: dict[str, asyncio.Task[None]] = {}
        self._tasks = TaskOwner()
        self.keeper = Keeper("publish domains")
        journal.listen(self._hear)

    async def start(self) -> None:
        """Publish, from now on."""
        self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """End; nothing of it runs when this returns."""
        await self.keeper.end()
        await self._tasks.end()

    def changed(self) -> None:
        """This node's own experts came, went or changed."""
        self._wake.set()

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            await self._publish(frozenset(d for o in self._local.offers() if o.available for d in o.domains))
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _publish(self, domains: frozenset[str]) -> None:
        if domains == self._published:
            return
        try:
            await self._finder.provide(map(_name, sorted(domains)))
        except MeshError as error:
            log.debug("domains were not published", error=str(error))
        else:
            self._published = domains

    # -- seeking -------------------------------------------------------------------------------------------------

    async def seek(self, domain: str, timeout_s: float) -> None:
        """Return at once when somebody known serves ``domain``, else when somebody was found or nobody in the time.

        What one caller began goes on when it stops waiting: the next one finds its fruit.
        """
        if self._is_served(domain):
            return
        task = self._seeking.get(domain)
        if task is None:
            now = self._clock.monotonic()
            if now - self._sought.get(domain, float("-inf")) < AGAIN_S:
                return
            self._remember(domain, now)
            task = self._seeking[domain] = self._tasks.start(self._seek(domain), f"seek {domain}")
            task.add_done_callback(lambda _: self._seeking.pop(domain, None))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(task)
        except TimeoutError:
            return

    async def _seek(self, domain: str) -> None:
        began = self._clock.monotonic()
        try:
            providers = await self._finder.find_providers(_name(domain), LOOKUP_S)
        except MeshError as error:
            log.debug("the directory was not asked", domain=domain, error=str(error))
            return
        dialled = 0
        for one in providers:
            if dialled < MAX_DIALLED:
                dialled += self._introductions.hint(one.peer, one.addresses, "dht", by=one.by, via=one.via)
        if providers:
            await self._until_served(domain)
        took_ms = (self._clock.monotonic() - began) * 1000
        fact = ExpertsSought(
            domain=domain,
            providers=len(providers),
            dialled=dialled,
            served=self._is_served(domain),
            took_ms=round(took_ms, 3),
        )
        self._journal.emit(fact, subject=self._journal.origin)

    async def _until_served(self, domain: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                while not self._is_served(domain):
                    self._offered.clear()
                    await self._offered.wait()
        except TimeoutError:
            return

    def _is_served(self, domain: str) -> bool:
        return any(domain in offer.domains for offers in self._state.offers.values() for offer in offers.values())

    def _remember(self, domain: str, now: float) -> None:
        self._sought.pop(domain, None)
        self._sought[domain] = now
        while len(self._sought) > _MAX_DOMAINS:
            del self._sought[next(iter(self._sought))]

    def _hear(self, event: Event) -> None:
        if isinstance(event.fact, ExpertOffered):
            self._offered.set()


def _name(domain: str) -> str:
    return f"domain/{domain}"
