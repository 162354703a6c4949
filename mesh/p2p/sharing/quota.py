"""How much of what others say is taken, and how often they may ask. Pure: time is given."""

from dataclasses import dataclass


@dataclass
class Bucket:
    """A token bucket: ``burst`` at once, ``per_s`` more each second."""

    per_s: float
    burst: float
    _level: float | None = None
    _at: float = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Take ``amount`` if it is there. More than the burst is let through when the bucket is full."""
        level = self._filled(now)
        if level < min(amount, self.burst):
            return False
        self._level = max(level - amount, -self.burst)
        return True

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `take` would give it."""
        return max(0.0, (min(amount, self.burst) - self._filled(now)) / self.per_s)

    def _filled(self, now: float) -> float:
        level = self.burst if self._level is None else min(self.burst, self._level + (now - self._at) * self.per_s)
        self._level, self._at = level, now
        return level


class Buckets:
    """One bucket for each peer; those that were used longest ago are forgotten, which only refills them."""

    def __init__(self, per_s: float, burst: float, remembered: int = 4096) -> None:
        self._per_s = per_s
        self._burst = burst
        self._remembered = remembered
        self._buckets: dict[str, Bucket] = {}

    def of(self, peer: str) -> Bucket:
        """The peer's bucket."""
        bucket = self._buckets.pop(peer, None) or Bucket(self._per_s, self._burst)
        self._buckets[peer] = bucket
        if len(self._buckets) > self._remembered:
            del self._buckets[next(iter(self._buckets))]
        return bucket
