"""Who of the peers is alive, suspected or down, and whether we are fit to judge. Pure: time is an argument."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from mesh.p2p.detector import PhiDetector

SUSPECT_PHI = 3.0
DOWN_PHI = 8.0

State = Literal["alive", "suspected", "down"]


@dataclass(frozen=True)
class Suspected:
    """Heartbeats are overdue."""

    phi: float
    silent_s: float


@dataclass(frozen=True)
class ConfirmedDown:
    """Taken for dead."""

    silent_s: float


@dataclass(frozen=True)
class Rejoined:
    """Heard of again; ``away_s`` is how long it was silent."""

    away_s: float


Change = Suspected | ConfirmedDown | Rejoined


class Liveness:
    """What is thought of one peer, from the signs of life that it gives.

    With deviation bounded as in `mesh.p2p.detector`, silence is confirmed as death after 2.7 to 4.3 heartbeats.
    """

    def __init__(self, heartbeat_s: float, now: float) -> None:
        self._detector = PhiDetector(heartbeat_s, now)
        self._silent_since = now
        self.state: State = "alive"

    def beat(self, now: float) -> Rejoined | None:
        """A heartbeat was answered."""
        change = self.heard(now)
        self._detector.beat(now)
        return change

    def heard(self, now: float) -> Rejoined | None:
        """Any frame came from the peer."""
        was, since = self.state, self._silent_since
        self._detector.heard(now)
        self._silent_since = now
        self.state = "alive"
        return Rejoined(now - since) if was != "alive" else None

    def check(self, now: float, late_s: float = 0.0) -> Suspected | ConfirmedDown | None:
        """What the silence until ``now`` means, when that is news. We ourselves may hear ``late_s`` too late."""
        phi, silent_s = self._detector.phi(now - late_s), self._detector.silent_s(now)
        if self.state == "alive" and phi >= SUSPECT_PHI:
            self.state = "suspected"
            return Suspected(phi, silent_s)
        if self.state == "suspected" and phi >= DOWN_PHI:
            self.state = "down"
            return ConfirmedDown(silent_s)
        return None

    def excuse(self, seconds: float, now: float) -> None:
        """We were not listening for ``seconds``."""
        self._detector.excuse(seconds, now)


class LocalHealth:
    """Notices from the lateness of our own ticks that we were paused or starved.

    As in Lifeguard (A. Dadgar, J. Phillips, J. Currey: "Lifeguard: Local Health Awareness for More Accurate Failure
    Detection", 2018): who processes messages late must not accuse others of being late.
    """

    def __init__(self, tick_s: float, now: float) -> None:
        self._tick_s = tick_s
        self._last = now

    def tick(self, now: float) -> float:
        """Called every ``tick_s``; returns the seconds for which we were not listening (0 when all is well)."""
        late = now - self._last - self._tick_s
        self._last = now
        return late if late > self._tick_s else 0.0


class Lateness:
    """How late what we hear may be: as late as our own overlay has answered us lately, or has not answered yet.

    The other half of local health awareness: where Lifeguard multiplies its timeouts by a count of late answers, the
    silence of peers is judged less the lateness that was measured. So a node that is well finds the dead as soon as
    ever, and one that is starved as much later as it is late. Each answer counts for ``remember_s``.
    """

    def __init__(self, remember_s: float) -> None:
        self._remember_s = remember_s
        self._asked_at: float | None = None
        self._answers: deque[tuple[float, float]] = deque()

    def asked(self, now: float) -> None:
        """The overlay was asked for a sign of life."""
        self._asked_at = now

    def answered(self, now: float) -> None:
        """It gave one."""
        if self._asked_at is not None:
            self._answers.append((now, now - self._asked_at))
            self._asked_at = None

    def late_s(self, now: float) -> float:
        """The longest that it took, or takes."""
        while self._answers and now - self._answers[0][0] > self._remember_s:
            self._answers.popleft()
        waiting_s = now - self._asked_at if self._asked_at is not None else 0.0
        return max([waiting_s, *(took for _, took in self._answers)])
