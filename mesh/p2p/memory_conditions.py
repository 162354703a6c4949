"""What a simulated network does to what it carries: delay, loss, duplication, reordering. Pure: chance is a seed."""

import random
from dataclasses import dataclass

# As TCP: the first time-out before something lost is sent again, doubled each time (RFC 6298 has 1 s; Linux 0.2 s).
_RESEND_S = 0.2
_MOST_RESENDS = 6
# Times are whole milliseconds, so that a virtual clock has fewer of them to stop at.
_DIGITS = 3


@dataclass(frozen=True)
class Conditions:
    """Of a whole network. Shares are 0…1.

    ``delay_s`` passes each way, and on top of it a random time with the mean ``jitter_s`` (exponentially distributed).
    ``loss`` of all packets never arrive. Streams and dials send again what was lost, so that loss is delay to them; a
    gossip message is gone. ``duplicated`` messages come twice, ``reordered`` ones after others that were sent later.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicated: float = 0.0
    reordered: float = 0.0


class Chance:
    """Draws what happens under ``conditions``: the same seed, the same fate."""

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.conditions = conditions
        self._rng = random.Random(seed)  # noqa: S311 - a simulation

    def of_packet(self) -> float:
        """Seconds until a packet has arrived that is sent again whenever it is lost."""
        seconds, resend_s = self._once(), _RESEND_S
        for _ in range(_MOST_RESENDS):
            if not self._happens(self.conditions.loss):
                break
            seconds += resend_s
            resend_s *= 2
        return seconds

    def of_message(self) -> list[float]:
        """Seconds until each copy of a message arrives that is sent once: none when it is lost."""
        if self._happens(self.conditions.loss):
            return []
        copies = [self._once()]
        if self._happens(self.conditions.reordered):
            copies[0] += 2 * self._once() + _RESEND_S
        if self._happens(self.conditions.duplicated):
            copies.append(copies[0] + self._once())
        return copies

    def some(self, of: list[str], count: int) -> list[str]:
        """Some of them, all when there are no more."""
        return of if len(of) <= count else self._rng.sample(of, count)

    def _once(self) -> float:
        conditions = self.conditions
        if not conditions.jitter_s:
            return conditions.delay_s
        return round(conditions.delay_s + self._rng.expovariate(1 / conditions.jitter_s), _DIGITS)

    def _happens(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share
