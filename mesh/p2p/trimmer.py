"""Keeps the number of connected peers below the high-water mark: decides, records the decision, carries it out."""

from collections.abc import Callable, Mapping

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.events.journal import Journal
from mesh.events.vocabulary.access import ConnectionsTrimmed, Trimmed
from mesh.keeper import Keeper
from mesh.p2p.link import Link
from mesh.p2p.peers import Peers
from mesh.p2p.trimming import Plan, Standing, Use, plan, sole_domains

_LOOK_EVERY_S = 1.0
# What every peer is good for, and the domains that this node serves itself.
Uses = Callable[[], tuple[Mapping[str, Use], frozenset[str]]]


class Trimmer:
    """Looks once a second."""

    def __init__(self, peers: Peers, journal: Journal, config: OverlayConfig, clock: Clock, *, uses: Uses) -> None:
        self._peers = peers
        self._journal = journal
        self._config = config
        self._clock = clock
        self._uses = uses
        self.keeper = Keeper("trim connections")

    async def start(self) -> None:
        """Begin to look."""
        self.keeper.begin(self._run())

    async def stop(self) -> None:
        """Look no more."""
        await self.keeper.end()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Let peers go, if there are too many."""
        links = self._peers.connected_links()
        config = self._config
        if len(links) <= config.high_water:
            return
        low, high, grace_s = config.low_water, config.high_water, config.trim_grace_s
        decided = plan(self._standings(links), low=low, high=high, grace_s=grace_s)
        if decided is not None:
            self._carry_out(decided, len(links))

    def _standings(self, links: tuple[Link, ...]) -> list[Standing]:
        uses, own = self._uses()
        alone = sole_domains(uses, [link.peer for link in links], own)
        return [self._standing(link, uses.get(link.peer, Use()), alone[link.peer]) for link in links]

    def _standing(self, link: Link, use: Use, alone: int) -> Standing:
        beats = link.heartbeats
        return Standing(
            peer=link.peer,
            connected_s=self._clock.monotonic() - link.connected_at,
            static=self._peers.is_static(link.peer),
            in_flight=link.in_flight,
            sole_domains=alone,
            domains=len(use.domains),
            answered_s=max(0.0, self._clock.now() - use.answered_at) if use.answered_at else -1.0,
            rtt_ms=beats.latency_s * 1000 if beats.latency_s >= 0 else -1.0,
            loss=beats.loss,
        )

    def _carry_out(self, decided: Plan, connections: int) -> None:
        config = self._config
        trimmed = tuple(
            Trimmed(peer=standing.peer, score=round(sum(parts.values()), 4), parts=parts)
            for standing, parts in decided.trimmed
        )
        fact = ConnectionsTrimmed(
            connections=connections,
            high_water=config.high_water,
            low_water=config.low_water,
            remaining=decided.remaining,
            trimmed=trimmed,
            protected=dict(decided.protected),
        )
        self._journal.emit(fact, subject=self._journal.origin)
        for one in trimmed:
            why = f"{connections} peers are over the high water of {config.high_water}"
            self._peers.let_go(one.peer, f"trimmed with the score {one.score:g}: {why}")
