"""Looks for experts that come and go by themselves, and has them served for as long as they are there."""

import asyncio
from collections.abc import Sequence

import structlog

from mesh.clock import Clock
from mesh.errors import MeshError
from mesh.experts.host import LocalExperts
from mesh.experts.recruiting import ExpertSource, Recruit, Roll
from mesh.keeper import Keeper

_FIND_TIMEOUT_S = 15.0

log = structlog.get_logger(__name__)


class Recruiter:
    """Asks each source every ``interval_s``. A source that cannot say leaves everything as it is."""

    def __init__(
        self, sources: Sequence[ExpertSource], experts: LocalExperts, clock: Clock, *, interval_s: float, most: int = 64
    ) -> None:
        self._sources = tuple(sources)
        self._experts = experts
        self._clock = clock
        self._interval_s = interval_s
        self._most = most
        self._rolls = [Roll() for _ in sources]
        self._problems = [""] * len(self._sources)
        self.keeper = Keeper("recruit experts")

    async def start(self) -> None:
        """Begin to look."""
        if self._sources:
            self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """Look no more. The experts are the host's to stop."""
        await self.keeper.end()
        await asyncio.gather(*(source.close() for source in self._sources))

    async def _keep(self) -> None:
        while True:
            await asyncio.gather(*(self._look(number) for number in range(len(self._sources))))
            await self._clock.sleep(self._interval_s)

    async def _look(self, number: int) -> None:
        source, roll = self._sources[number], self._rolls[number]
        try:
            async with asyncio.timeout(_FIND_TIMEOUT_S):
                found = list(await source.find())
        except (MeshError, TimeoutError) as error:
            self._complain(number, str(error) or f"no answer within {_FIND_TIMEOUT_S:g} s")
            return
        if len(found) > self._most:
            self._complain(number, f"it has {len(found)} experts, and {self._most} are taken in")
        else:
            self._problems[number] = ""
        taken = self._experts.names - roll.serving.keys()
        change = roll.seen(found[: self._most], frozenset(taken))
        for name in change.leave:
            await self._experts.withdraw(name, f"it is no longer found at {source.name}")
        await asyncio.gather(*(self._enlist(recruit, source.name) for recruit in change.come))

    async def _enlist(self, recruit: Recruit, source: str) -> None:
        log.info("expert found", expert=recruit.config.name, source=source, domains=recruit.config.domains)
        await self._experts.enlist(recruit.config, recruit.make())

    def _complain(self, number: int, problem: str) -> None:
        if problem != self._problems[number]:
            self._problems[number] = problem
            log.warning("experts cannot be looked for", source=self._sources[number].name, problem=problem)
