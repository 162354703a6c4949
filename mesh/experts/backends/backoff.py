"""How long to wait before what ended is started again: longer each time, anew once it has lasted. Pure."""

FIRST_S = 0.1
MOST_S = 10.0
LASTED_S = 30.0


class Backoff:
    """The pause before the next start; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._pause = FIRST_S

    def after(self, lived_s: float) -> float:
        """The pause after something that lived so long; 0 seconds for a start that failed."""
        if lived_s >= LASTED_S:
            self._pause = FIRST_S
        pause, self._pause = self._pause, min(self._pause * 2, MOST_S)
        return pause
