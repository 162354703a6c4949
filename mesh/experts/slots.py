"""A bounded number of slots and a bounded queue before them, first come first served."""

import asyncio

from mesh.experts.calls import AttemptFailed


class Slots:
    """Hands out ``concurrency`` slots; up to ``queue_limit`` more callers may wait for one.

    A freed slot goes straight to whoever waits longest, so nobody who comes later can overtake.
    """

    def __init__(self, expert: str, concurrency: int, queue_limit: int) -> None:
        self._expert = expert
        self._concurrency = concurrency
        self._queue_limit = queue_limit
        self._waiting: dict[asyncio.Future[None], None] = {}
        self.in_flight = 0

    @property
    def queued(self) -> int:
        """How many callers wait for a slot."""
        return len(self._waiting)

    async def acquire(self) -> None:
        """Return with a slot in hand. Raises AttemptFailed ``overloaded`` at once when the queue is full."""
        if self.in_flight < self._concurrency:
            self.in_flight += 1
            return
        if len(self._waiting) >= self._queue_limit:
            raise AttemptFailed(
                "overloaded",
                f"{self._expert} runs {self.in_flight} of {self._concurrency} and "
                f"{len(self._waiting)} wait in a queue of {self._queue_limit}",
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except BaseException:
            self._leave(turn)
            raise

    def release(self) -> None:
        """Give the slot to the next who waits, or back."""
        while self._waiting:
            turn = self._next()
            if not turn.done():  # a waiter that was cancelled has not yet had its chance to leave
                turn.set_result(None)
                return
        self.in_flight -= 1

    def refuse_waiting(self, failure: AttemptFailed) -> None:
        """Fail everybody who waits."""
        while self._waiting:
            turn = self._next()
            if not turn.done():
                turn.set_exception(failure)

    def _next(self) -> "asyncio.Future[None]":
        turn = next(iter(self._waiting))
        del self._waiting[turn]
        return turn

    def _leave(self, turn: "asyncio.Future[None]") -> None:
        """A waiter gives up: out of the queue, or, when the slot was already its own, pass it on."""
        if turn in self._waiting:
            del self._waiting[turn]
        elif not turn.cancelled() and turn.exception() is None:
            self.release()
