"""Answers that were given before: kept for a while, and shared by equal requests that come at the same moment.

Equal is exact: `key_of` is a digest of everything that the caller asked for. Requests that are equal and in flight
together wait for the first of them. When that one fails or is taken back, the next in line does the work itself: what
ended one caller's request says nothing about another's.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from hashlib import sha256
from types import TracebackType

import msgspec

from mesh.config import CacheConfig
from mesh.experts.plan import Plan
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies import Result

# What an entry takes in memory beside its text, about.
_ENTRY_BYTES = 1024
# What of a plan does not make the answer another one: who asks, how it is delivered, who may give it soonest.
_DELIVERY = {"content_bytes", "timeout_s", "whole", "hedge", "cache", "conversation", "fallback", "held"}
_IRRELEVANT = {"request", "caller", "domain_by", "route_domain", "policy", "attempts", "rules", "instead"} | _DELIVERY


class Kept(msgspec.Struct, frozen=True):
    """An answer, and the request that it was found for."""

    request: str
    result: Result
    until: float

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.result.text.encode()) + _ENTRY_BYTES


class Flight:
    """Requests that are equal: one of them is at work, the others wait, in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[Kept | None]] = deque()


class AnswerCache:
    """``monotonic`` gives seconds."""

    def __init__(self, config: CacheConfig, monotonic: Callable[[], float]) -> None:
        self._config = config
        self._monotonic = monotonic
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._flights: dict[str, Flight] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def turn(self, plan: Plan, seconds: float) -> "Turn":
        """The turn of a request, which waits at most so long for another's answer. Use as an async context manager."""
        wanted = _wanted(plan, self._config.mode)
        return Turn(self, key_of(plan, self._config) if wanted else "", plan.request, seconds)

    def look_up(self, key: str) -> Kept | None:
        """What is kept and not too old."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= self._monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def keep(self, key: str, request: str, result: Result) -> Kept:
        """Keep an answer, and let go of those that were not asked for longest, where there is no room."""
        kept = Kept(request, _without_votes(result), self._monotonic() + self._config.ttl_s)
        if kept.size > self._config.max_bytes // 4:
            return kept
        self._drop(key)
        self._kept[key] = kept
        self.bytes += kept.size
        while self.bytes > self._config.max_bytes:
            self._drop(next(iter(self._kept)))
        return kept

    def forget(self, requests: Collection[str]) -> None:
        """Let go of the answers that were found for these requests."""
        wanted = set(requests)
        for key in [key for key, kept in self._kept.items() if kept.request in wanted]:
            self._drop(key)

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size

    def join(self, key: str) -> "asyncio.Future[Kept | None] | None":
        """What to wait for when an equal request is at work: its answer, or None and the work is ours. None: go."""
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = Flight()
            return None
        turn: asyncio.Future[Kept | None] = asyncio.get_running_loop().create_future()
        flight.waiting.append(turn)
        return turn

    def land(self, key: str, kept: Kept | None) -> None:
        """The one at work is through: all who wait have its answer; or, without one, the next of them has the work."""
        waiting = self._flights[key].waiting
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(kept)
                if kept is None:
                    return
        del self._flights[key]

    def leave(self, key: str, turn: "asyncio.Future[Kept | None]") -> None:
        """Somebody waits no longer; if the work had just become its own, the next has it."""
        if turn.done() and not turn.cancelled() and turn.result() is None:
            self.land(key, None)
        elif key in self._flights and turn in self._flights[key].waiting:
            self._flights[key].waiting.remove(turn)


class Turn:
    """One request at the cache: ``kept`` is what it gets from there, if anything; else what it finds goes in."""

    def __init__(self, cache: AnswerCache, key: str, request: str, seconds: float) -> None:
        self._cache = cache
        self._key = key
        self._request = request
        self._seconds = seconds
        self._found: Kept | None = None
        self._works = False
        self.kept: Result | None = None

    async def __aenter__(self) -> "Turn":
        kept = self._cache.look_up(self._key) or await self._wait() if self._key else None
        if kept is not None:
            self.kept = msgspec.structs.replace(kept.result, cached_from=kept.request)
        return self

    def found(self, result: Result, *, whole: bool) -> None:
        """The answer; ``whole``: nothing failed and nothing was given up on the way, so that it is worth keeping."""
        if self._works and whole and not result.fallback:
            self._found = self._cache.keep(self._key, self._request, result)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._works:
            self._cache.land(self._key, self._found)

    async def _wait(self) -> Kept | None:
        turn = self._cache.join(self._key)
        kept = None if turn is None else await self._until(turn)
        self._works = kept is None
        return kept

    async def _until(self, turn: "asyncio.Future[Kept | None]") -> Kept | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await turn
        except BaseException as error:
            self._cache.leave(self._key, turn)
            if isinstance(error, TimeoutError):
                message = f"an equal request that is at work had no answer within {self._seconds:.3f} s"
                raise QueryFailed("expired", message) from None
            raise


def _without_votes(result: Result) -> Result:
    """They were cast once: in the request that they were cast for they are counted and shown."""
    return Result(
        text=result.text,
        winners=result.winners,
        model=result.model,
        agreement=result.agreement,
        tokens_in=result.tokens_in,
        tokens_out=result.tokens_out,
        format=result.format,
        finish_reason=result.finish_reason,
        parts=result.parts,
    )


def key_of(plan: Plan, config: CacheConfig) -> str:
    """SHA-256 over all that makes an answer what it is."""
    asked = {name: getattr(plan, name) for name in plan.__struct_fields__ if name not in _IRRELEVANT}
    if config.share == "caller":
        asked["caller"] = plan.caller
    return sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def is_deterministic(plan: Plan) -> bool:
    """Whether asking again would give the same, as far as the caller's own words say: no temperature, or a seed."""
    options = plan.options
    return plan.task == "embed" or options.get("temperature") == 0 or options.get("seed") is not None


def _wanted(plan: Plan, mode: str) -> bool:
    if plan.cache == "off" or mode == "off" or not plan.held:
        return False
    return plan.cache == "on" or mode == "all" or (mode == "deterministic" and is_deterministic(plan))
