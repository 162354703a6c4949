"""A flood of the same complaint becomes a few: bad peers must not fill the journal."""

from dataclasses import dataclass

_MAX_KEYS = 1024
_SWEEP_EVERY_S = 1.0


@dataclass
class _Source:
    tokens: float
    filled_at: float
    withheld: int = 0


class Damper:
    """Lets through ``burst`` facts of one key at once and ``per_s`` a second, and counts what it withholds."""

    def __init__(self, *, burst: int = 5, per_s: float = 0.2) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._sources: dict[str, _Source] = {}
        self._swept_at = -_SWEEP_EVERY_S

    def admit(self, key: str, now: float) -> int | None:
        """How many of the same key were withheld since the last (0: none), or None: withhold this one.

        Keys beyond 1024 that are all busy share one allowance.
        """
        source = self._sources.get(key)
        if source is None:
            self._make_room(now)
            key = key if len(self._sources) < _MAX_KEYS else "*"
            source = self._sources.setdefault(key, _Source(self._burst, now))
        self._refill(source, now)
        if source.tokens < 1:
            source.withheld += 1
            return None
        source.tokens -= 1
        withheld, source.withheld = source.withheld, 0
        return withheld

    def _refill(self, source: _Source, now: float) -> None:
        source.tokens = min(self._burst, source.tokens + (now - source.filled_at) * self._per_s)
        source.filled_at = now

    def _make_room(self, now: float) -> None:
        if len(self._sources) < _MAX_KEYS or now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        for key, source in list(self._sources.items()):
            self._refill(source, now)
            if source.tokens >= self._burst:
                del self._sources[key]
