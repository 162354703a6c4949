"""How much all peers together may have sent that the node has not taken yet. Pure."""

from collections.abc import Hashable
from typing import Protocol

from mesh.p2p.host.admission import Refusal


class Holder(Hashable, Protocol):
    """A connection that holds received bytes."""

    def held(self) -> int:
        """Bytes received and not taken."""
        ...

    def give_up(self, refusal: Refusal) -> None:
        """End the connection: it holds too much."""
        ...


class ReceiveBudget:
    """Counts what connections hold. Where it is too much, the one that holds the most is given up.

    A connection's own count is renewed when it receives; what was taken meanwhile shows then, or when the budget
    seems to be used up.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: dict[Holder, int] = {}
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes held, as far as counted; never less than there are."""
        return self._total

    def receive(self, holder: Holder, held: int) -> None:
        """``holder`` is about to hold ``held`` bytes. Whoever holds the most is given up if that is too much."""
        self._set(holder, held)
        if self._total <= self._limit:
            return
        for other in self._held:
            if other is not holder:
                self._set(other, other.held())
        while self._total > self._limit and self._held:
            largest = max(self._held, key=self._held.__getitem__)
            value = f"{self._total}, of which it held {self._held[largest]}"
            self.forget(largest)
            largest.give_up(Refusal("max_receive_bytes", str(self._limit), value))

    def forget(self, holder: Holder) -> None:
        """The connection is over. Again: no-op."""
        self._total -= self._held.pop(holder, 0)

    def _set(self, holder: Holder, held: int) -> None:
        self._total += held - self._held.get(holder, 0)
        self._held[holder] = held
