"""Slots of one expert, and a bounded queue before them in which callers take turns."""

import asyncio
import math

from mesh.experts.calls import AttemptFailed
from mesh.experts.fair_queue import FairQueue
from mesh.experts.limit import Limit

# What a call is charged until it is known how long it took, and the bounds of a hint when to try again.
_CHARGE_S = 0.1
_SOONEST_S = 0.05
_LATEST_S = 60.0


class Slots:
    """Hands out as many slots as the limit allows; up to ``queue_limit`` more calls may wait for one.

    Who waits is served in the order of `FairQueue`: a caller that asks for much waits behind itself, not before others.
    When the queue is full it is the last call of the longest queue that has no room. A call that cannot begin before
    its deadline, as far as can be told, does not wait for it.
    """

    def __init__(self, expert: str, limit: Limit, queue_limit: int) -> None:
        self._expert = expert
        self.limit = limit
        self._queue_limit = queue_limit
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self.in_flight = 0

    @property
    def queued(self) -> int:
        """How many calls wait for a slot."""
        return len(self._queue)

    async def acquire(self, caller: str = "", *, time_left_s: float = math.inf) -> None:
        """Return with a slot in hand.

        Raises AttemptFailed ``overloaded`` at once when there is no room, or no time, to wait; later when a caller that
        has less waiting needs the place.
        """
        if self.in_flight < self.limit.now and not self._queue:
            self._queue.arrive(caller)
            self._begin(caller)
            return
        self._find_room(caller, time_left_s)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.push(caller, turn)
        try:
            await turn
        except BaseException:
            self._leave(caller, turn)
            raise

    def release(self, caller: str = "", *, work_s: float = 0.0) -> None:
        """A call of ``caller`` has ended after so many seconds: its slot goes to the next who waits, or back."""
        self.in_flight -= 1
        self._queue.correct(caller, work_s - _CHARGE_S)
        self._hand_out()

    def refuse_waiting(self, failure: AttemptFailed) -> None:
        """Fail everybody who waits."""
        while self._queue:
            _, turn = self._queue.pop()
            if not turn.done():
                turn.set_exception(failure)

    def _find_room(self, caller: str, time_left_s: float) -> None:
        wait_s = self.limit.expected_wait_s(self._queue.ahead_of(caller))
        if wait_s > time_left_s:
            raise self._overloaded(f"the wait is about {wait_s:.1f} s, and {time_left_s:.1f} s are left")
        if len(self._queue) < self._queue_limit:
            return
        shed = self._queue.shed_for(caller)
        if shed is None:
            raise self._overloaded(f"{self.queued} wait in a queue of {self._queue_limit}")
        if not shed.done():
            shed.set_exception(self._overloaded("another caller, with fewer calls waiting, took the last place"))

    def _overloaded(self, why: str) -> AttemptFailed:
        hint_s = self.limit.expected_wait_s(self.queued) or 1.0
        return AttemptFailed(
            "overloaded",
            f"{self._expert} runs {self.in_flight} of {self.limit.now} and {why}",
            retry_after_s=round(min(max(hint_s, _SOONEST_S), _LATEST_S), 2),
        )

    def _hand_out(self) -> None:
        while self._queue and self.in_flight < self.limit.now:
            caller, turn = self._queue.pop()
            if not turn.done():  # a waiter that was cancelled has not yet had its chance to leave
                self._begin(caller)
                turn.set_result(None)

    def _begin(self, caller: str) -> None:
        self.in_flight += 1
        self._queue.begin(caller, _CHARGE_S)

    def _leave(self, caller: str, turn: "asyncio.Future[None]") -> None:
        """A waiter gives up: out of the queue, or, when the slot was already its own, pass it on."""
        if not self._queue.remove(caller, turn) and not turn.cancelled() and turn.exception() is None:
            self.release(caller)
