"""Whether others can reach this node, from what those say who tried. Pure."""

from collections.abc import Iterable

UNKNOWN, PUBLIC, PRIVATE = "unknown", "public", "private"
# A single peer can err, or lie; in a mesh of two it is all there is.
_MAX_NEEDED = 3


class Verdicts:
    """The last word of each peer that was asked to dial us, and what follows from all of them."""

    def __init__(self) -> None:
        self.state = UNKNOWN
        self._said: dict[str, tuple[bool, str]] = {}
        self._silent: set[str] = set()

    def hear(self, peer: str, address: str | None) -> None:
        """The peer tried: it reached us at ``address``, or did not (None)."""
        self._said[peer] = (address is not None, address or "")
        self._silent.discard(peer)

    def hear_nothing(self, peer: str) -> None:
        """The peer would not try, or did not answer: it is not waited for, and what it said before stands."""
        self._silent.add(peer)

    def forget(self, peer: str) -> None:
        """The peer is gone, and what it said is too old to count."""
        self._said.pop(peer, None)
        self._silent.discard(peer)

    def addresses(self) -> tuple[str, ...]:
        """Where we were reached."""
        return tuple(sorted({address for reached, address in self._said.values() if reached}))

    def decide(self, askable: Iterable[str]) -> str | None:
        """The new state when it changed, else None. ``askable`` are the peers that could be asked.

        More than half of those who said something have to agree, and at least three, or all that there are but the
        silent.
        """
        needed = min(_MAX_NEEDED, max(1, len(({*askable} - self._silent) | {*self._said})))
        reached = sum(ok for ok, _ in self._said.values())
        failed = len(self._said) - reached
        state = self.state
        if reached >= needed and reached > failed:
            state = PUBLIC
        elif failed >= needed and failed > reached:
            state = PRIVATE
        elif not self._said:
            state = UNKNOWN
        if state == self.state:
            return None
        self.state = state
        return state
