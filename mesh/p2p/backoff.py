"""How long to wait before trying again: exponential, with jitter. Pure."""

import random


class Backoff:
    """Doubles from ``least_s`` to ``most_s``, each time within ±20 % of it so that many nodes don't try in step.

    The spread comes from ``rng`` (seeded by the caller).
    """

    def __init__(self, least_s: float, most_s: float, rng: random.Random) -> None:
        self._least_s = least_s
        self._most_s = max(least_s, most_s)
        self._rng = rng
        self.attempt = 0

    def fail(self) -> float:
        """Count a failure; returns the seconds to wait now."""
        # 2**30 times the least is beyond any sensible limit; the exponent must not grow for ever.
        pause = min(self._most_s, self._least_s * 2.0 ** min(self.attempt, 30))
        self.attempt += 1
        return min(self._most_s, pause * self._rng.uniform(0.8, 1.2))

    def succeed(self) -> None:
        """Start again from the least."""
        self.attempt = 0
