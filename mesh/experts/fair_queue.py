"""Who is next, when several callers want the same thing: whoever has had the least of it. Pure.

Start-time fair queueing (Goyal, Vin, Cheng 1996) with charges that are corrected afterwards: every caller has an
account of the seconds of work that were done for it, and the lowest account goes first. One who was away comes back at
the level of those who are served now: nobody saves up, and nobody pays for what was free. Within a caller it is first
come first served.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")
# Accounts of callers for whom nothing waits; what is dropped above that is at most one turn of somebody long gone.
_REMEMBERED = 1024


class FairQueue(Generic[T]):
    """Items that wait, by caller."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}
        self._accounts: dict[str, float] = {}
        self._level = 0.0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def waiting(self, caller: str) -> int:
        """How many items of the caller wait."""
        return len(self._waiting.get(caller, ()))

    def ahead_of(self, caller: str) -> int:
        """How many items go before a new one of the caller, when callers take turns."""
        own = self.waiting(caller)
        return own + sum(min(len(items), own + 1) for name, items in self._waiting.items() if name != caller)

    def arrive(self, caller: str) -> None:
        """The caller, of whom nothing waits, wants something: it is level with those who are served now."""
        self._accounts[caller] = max(self._accounts.get(caller, 0.0), self._level)

    def push(self, caller: str, item: T) -> None:
        """Let an item wait."""
        if caller not in self._waiting:
            self.arrive(caller)
            self._waiting[caller] = deque()
        self._waiting[caller].append(item)
        self._size += 1

    def pop(self) -> tuple[str, T]:
        """The next item, and whose it is. Raises LookupError when nothing waits."""
        if not self._waiting:
            raise LookupError("nothing waits")
        caller = min(self._waiting, key=self._accounts.__getitem__)
        item = self._waiting[caller].popleft()
        self._gone_from(caller)
        return caller, item

    def remove(self, caller: str, item: T) -> bool:
        """Take an item out of its turn; False when it does not wait (any more)."""
        items = self._waiting.get(caller)
        if items is None or item not in items:
            return False
        items.remove(item)
        self._gone_from(caller)
        return True

    def shed_for(self, caller: str) -> T | None:
        """Make room for one more of the caller: the last item of whoever has most, if that is more than it will have.

        None: it is the newcomer that has no room.
        """
        longest = max(self._waiting, key=self.waiting, default="")
        if self.waiting(longest) <= self.waiting(caller) + 1:
            return None
        item = self._waiting[longest].pop()
        self._gone_from(longest)
        return item

    def begin(self, caller: str, seconds: float) -> None:
        """Work for the caller begins and will take about so long: that is charged now."""
        start = self._accounts.get(caller, self._level)
        self._level = max(self._level, start)
        self._accounts[caller] = start + seconds
        if len(self._accounts) > _REMEMBERED + len(self._waiting):
            self._forget()

    def correct(self, caller: str, seconds: float) -> None:
        """The work took so much longer than was charged; less than nothing: shorter."""
        if caller in self._accounts:
            self._accounts[caller] += seconds

    def _gone_from(self, caller: str) -> None:
        self._size -= 1
        if not self._waiting[caller]:
            del self._waiting[caller]

    def _forget(self) -> None:
        idle = sorted((name for name in self._accounts if name not in self._waiting), key=self._accounts.__getitem__)
        for name in idle[: len(idle) // 2]:
            del self._accounts[name]
