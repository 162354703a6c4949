"""Who broke the rules, and for how long it is kept out. Pure: time is given to it."""

from dataclasses import dataclass

# Each further offence doubles the pause, up to this; who kept the rules for as long afterwards starts anew.
LONGEST_S = 3600.0
# Who broke the rules first is forgotten first: a new key costs nothing, so that nobody fills our memory with them.
MAX_PENALTIES = 1024


@dataclass
class _Penalty:
    until: float
    pause_s: float


class Penalties:
    """The pauses that are running: of a peer the first lasts ``first_s`` seconds, and none more than ``longest_s``."""

    def __init__(self, first_s: float, longest_s: float = LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = max(longest_s, first_s)
        self._penalties: dict[str, _Penalty] = {}

    def offend(self, peer: str, now: float) -> float:
        """The peer broke a rule. Returns how many seconds it is kept out from now; within a pause nothing is added."""
        before = self._penalties.pop(peer, None)
        if before is None or now > before.until + LONGEST_S:
            pause_s = self._first_s
        elif now < before.until:
            self._penalties[peer] = before
            return before.until - now
        else:
            pause_s = min(2 * before.pause_s, self._longest_s)
        if len(self._penalties) >= MAX_PENALTIES:
            del self._penalties[next(iter(self._penalties))]
        self._penalties[peer] = _Penalty(now + pause_s, pause_s)
        return pause_s

    def next_end_in(self, now: float) -> float | None:
        """The seconds until somebody is to be let in again; None when nobody is kept out."""
        return min((p.until - now for p in self._penalties.values() if now < p.until), default=None)

    def kept_out(self, now: float) -> tuple[str, ...]:
        """Who is to be neither dialled nor let in now, in the order of their ids."""
        return tuple(sorted(peer for peer, penalty in self._penalties.items() if now < penalty.until))
