"""How late the event loop runs: a timer that notes by how much it overslept."""

from collections import deque

from mesh.clock import Clock
from mesh.health.score import UNKNOWN

TICK_S = 0.25
# An hour of ticks; older ones are no longer of interest.
_MAX_TICKS = 14_400


class LoopLag:
    """Measures the lag of the loop that `run` runs on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags_ms: deque[float] = deque(maxlen=_MAX_TICKS)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            start = self._clock.monotonic()
            await self._clock.sleep(TICK_S)
            self._lags_ms.append(max(0.0, (self._clock.monotonic() - start - TICK_S) * 1000))

    def take_ms(self) -> float:
        """The 95th percentile (nearest rank) since the last call, in ms; -1 when there was no tick."""
        lags = sorted(self._lags_ms)
        self._lags_ms.clear()
        return lags[-(len(lags) // 20) - 1] if lags else UNKNOWN
