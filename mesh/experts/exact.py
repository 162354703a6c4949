"""Arithmetic that gives the same bits on every machine and in every Python, so that decisions can be recomputed.

Only IEEE 754 basic operations and integers: `math.exp` differs in the last bit between C libraries, and the
algorithms of `random.Random` between Python releases.
"""

_MASK = (1 << 64) - 1
_SQUARINGS = 10


def decay(elapsed_s: float, tau_s: float) -> float:
    """About ``exp(-elapsed_s / tau_s)``, as ``(1 - x / 1024) ** 1024`` by ten squarings; 1.0 for no time or less."""
    if elapsed_s <= 0:
        return 1.0
    value = 1.0 - elapsed_s / tau_s / (1 << _SQUARINGS)
    if value <= 0:
        return 0.0
    for _ in range(_SQUARINGS):
        value *= value
    return value


class Dice:
    """Random numbers from a recorded seed: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """The next 64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``, by multiplication: biased by less than ``limit / 2**64``."""
        return (self.next() * limit) >> 64

    def two_below(self, limit: int) -> tuple[int, int]:
        """Two different numbers below ``limit``, which must be at least 2."""
        first = self.below(limit)
        second = self.below(limit - 1)
        return first, second + (second >= first)
