"""Forgetting what requests said: keys are erased, the journal says so, and nothing in it changes."""

import asyncio
from collections.abc import Callable, Collection, Iterable

import msgspec
import structlog

from mesh.clock import Clock
from mesh.events.journal import Journal
from mesh.events.vocabulary.requests import RequestForgotten
from mesh.experts.content_keys import ContentKeys
from mesh.experts.parts import part_ids
from mesh.keeper import Keeper

_DAY_S = 86_400.0
_LONGEST_PAUSE_S = 3600.0
_SHORTEST_PAUSE_S = 1.0
# So many events go to the store at a time: a year's worth must not stand in the way of requests.
_AT_ONCE = 500

log = structlog.get_logger(__name__)


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: of how many requests the text is gone now, and those that were named and have no key."""

    count: int
    without_key: tuple[str, ...] = ()


class Forgetter:
    """Erases keys when told to, and by itself when they are older than ``retain_days`` (0: never).

    ``on_forgotten`` is told the requests, to drop what is in memory of them. A key is erased first and the event
    follows; what a crash leaves between the two is recorded at the next `start`.
    """

    def __init__(
        self,
        keys: ContentKeys,
        journal: Journal,
        clock: Clock,
        *,
        retain_days: float,
        on_forgotten: Callable[[Collection[str]], None] = lambda _requests: None,
    ) -> None:
        self._keys = keys
        self._journal = journal
        self._clock = clock
        self._retain_s = retain_days * _DAY_S
        self._on_forgotten = on_forgotten
        self.keeper = Keeper("forget old content")
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        """Record what was erased and not recorded; then keep forgetting what has become too old."""
        left = await asyncio.to_thread(self._keys.erased)
        if left:
            await self._record(sorted(left), actor="", reason="told")
        if self._retain_s:
            self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """Forget nothing more by itself."""
        await self.keeper.end()

    async def forget(self, requests: Iterable[str], *, actor: str, reason: str = "told") -> Forgotten:
        """Erase the keys of these requests and of their parts.

        On return that is stored; raises OSError where a key cannot be erased.
        """
        named = tuple(dict.fromkeys(requests))
        wanted = tuple(one for request in named for one in (request, *part_ids(request)))
        async with self._one_at_a_time:
            self._on_forgotten(wanted)
            gone = await asyncio.to_thread(self._keys.erase, wanted)
            await self._record([request for request in wanted if request in gone], actor=actor, reason=reason)
        without = (request for request in named if gone.isdisjoint((request, *part_ids(request))))
        return Forgotten(count=len(gone), without_key=tuple(without))

    async def forget_where(self, *, before: float, caller: str, actor: str, reason: str = "told") -> Forgotten:
        """Erase the keys from before a time (Unix seconds) and of a caller (empty: of everybody)."""
        found = await asyncio.to_thread(lambda: tuple(self._keys.select(before=before, caller=caller)))
        done = await self.forget(found, actor=actor, reason=reason)
        return Forgotten(count=done.count)  # who was quicker has forgotten the others

    async def _keep(self) -> None:
        pause = min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, self._retain_s / 24))
        while True:
            before = self._clock.now() - self._retain_s
            try:
                done = await self.forget_where(before=before, caller="", actor="", reason="retention")
            except OSError:
                log.exception("old content could not be forgotten")
            else:
                if done.count:
                    log.info("forgot old content", requests=done.count)
            await self._clock.sleep(pause)

    async def _record(self, requests: list[str], *, actor: str, reason: str) -> None:
        for start in range(0, len(requests), _AT_ONCE):
            some = requests[start : start + _AT_ONCE]
            for request in some:
                fact = RequestForgotten(request=request, actor=actor, reason=reason)
                emission = self._journal.emit(fact, subject=request, correlation=request)
            await emission.stored()
            await asyncio.to_thread(self._keys.settle, some)
