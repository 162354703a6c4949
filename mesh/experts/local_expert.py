"""One expert of this node at work: its backend behind its slots, deadline and cancellation."""

import asyncio
import traceback
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from mesh.config import ExpertConfig
from mesh.errors import MeshError
from mesh.events.vocabulary.experts import ExpertLimited
from mesh.experts.backend import Backend
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.limit import Limit
from mesh.experts.slots import Slots

# How long a call whose deadline has passed waits for its backend to let go of the slot, before it returns anyway.
_GRACE_S = 0.25
_MAX_MESSAGE = 500
# Places in an expert's code that are logged, for what was raised there.
_PLACES = 100

log = structlog.get_logger(__name__)


class LocalExpert:
    """Runs calls on one backend, at most ``concurrency`` at a time, and fewer where it does not take so many.

    Each call's work is a task of its own, which keeps its slot until it has really ended: a backend that is
    slow to stop delays nobody's deadline, and is not given more work than it may have.
    """

    def __init__(self, config: ExpertConfig, backend: Backend, concurrency: int) -> None:
        self.config = config
        self.backend = backend
        self.concurrency = concurrency
        least = config.min_concurrency if config.adapt else concurrency
        self.limit = Limit(least, concurrency)
        self.slots = Slots(config.name, self.limit, config.queue)
        self.started = False
        self.registered = False
        self.problem = "not started"
        # What of its load was recorded last: limit, calls that run, calls that wait, availability.
        self.said = (concurrency, 0, 0, True)
        self._limit_said = concurrency
        self._works: set[asyncio.Task[Answer]] = set()
        self._raised_at: set[str] = set()
        self._stopping = False

    @property
    def available(self) -> bool:
        """Whether it could serve when it was last checked."""
        return not self.problem

    def limit_change(self) -> ExpertLimited | None:
        """How the limit has changed since this was last asked; None where it has not."""
        limit, before, self._limit_said = self.limit, self._limit_said, self.limit.now
        if limit.now == before:
            return None
        return ExpertLimited(
            expert=self.config.name,
            limit=limit.now,
            before=before,
            concurrency=self.concurrency,
            reason=limit.reason,
            work_ms=round(limit.recent_ms, 3),
            baseline_ms=round(limit.baseline_ms, 3),
        )

    async def start(self) -> None:
        """Start the backend. Raises MeshError."""
        await self.backend.start()
        self.started = True

    async def stop(self) -> None:
        """Refuse who waits, end what runs, and stop the backend."""
        self._stopping = True
        self.slots.refuse_waiting(self._stopped())
        for work in self._works:
            work.cancel()
        while self._works:
            await asyncio.wait(self._works)
        await self.backend.stop()

    async def work(self, call: Call, emit: Emit, started: Callable[[], None], *, caller: str = "") -> Answer:
        """The backend's answer, within the call's deadline; ``started`` is called once there is a slot.

        ``caller`` is with whom others take turns.

        Raises AttemptFailed, also for whatever the backend raises.
        """
        if self._stopping:
            raise self._stopped()
        if call.timeout_ms <= 0:
            raise AttemptFailed("expired", f"no time was left for {self.config.name} (timeout_ms={call.timeout_ms})")
        work: asyncio.Task[Answer] | None = None
        try:
            arrived = asyncio.get_running_loop().time()
            async with asyncio.timeout(call.timeout_ms / 1000):
                await self.slots.acquire(caller, time_left_s=call.timeout_ms / 1000)
                started()
                work = self._begin(_with_what_is_left(call, arrived), emit, caller)
                await asyncio.wait({work})
        except TimeoutError:
            await self._end(work)
            raise AttemptFailed("expired", f"{self.config.name} had no answer within {call.timeout_ms} ms") from None
        finally:
            if work is not None and not work.cancelling():
                work.cancel()
        assert work is not None
        return self._result(work)

    def _begin(self, call: Call, emit: Emit, caller: str) -> "asyncio.Task[Answer]":
        work = asyncio.create_task(self.backend.answer(call, emit), name=f"{self.config.name} {call.request}")
        self._works.add(work)
        work.add_done_callback(partial(self._ended, caller, asyncio.get_running_loop().time()))
        return work

    def _ended(self, caller: str, began: float, work: "asyncio.Task[Answer]") -> None:
        self._works.discard(work)
        work_s = asyncio.get_running_loop().time() - began
        self._learn(work, work_s * 1000)
        self.slots.release(caller, work_s=work_s)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.debug("attempt failed", expert=self.config.name, work=work.get_name(), error=repr(error))
            if not isinstance(error, MeshError):
                self._tell_where(error)

    def _tell_where(self, error: BaseException) -> None:
        """Each place in the code of an expert that raises is logged once; the message may repeat what was asked."""
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}" if frames else "nowhere known"
        if where not in self._raised_at and len(self._raised_at) < _PLACES:
            self._raised_at.add(where)
            log.warning("an expert raised an error", expert=self.config.name, error=type(error).__name__, where=where)

    def _learn(self, work: "asyncio.Task[Answer]", work_ms: float) -> None:
        """Only what says how much the backend can take: an error comes fast, and a hasty caller proves nothing."""
        running = self.slots.in_flight
        if work.cancelled():
            if self._stopping or not self.limit.is_slow(work_ms):
                return
            self.limit.finished(work_ms, running)
        elif (error := work.exception()) is None:
            self.limit.finished(work_ms, running)
        elif isinstance(error, AttemptFailed) and error.kind == "overloaded":
            self.limit.finished(work_ms, running, congested=True)

    async def _end(self, work: "asyncio.Task[Answer] | None") -> None:
        if work is None:
            return
        work.cancel()
        _, still_running = await asyncio.wait({work}, timeout=_GRACE_S)
        if still_running:
            log.warning("backend does not stop when it is told to", expert=self.config.name, work=work.get_name())

    def _result(self, work: "asyncio.Task[Answer]") -> Answer:
        if work.cancelled():
            raise self._stopped() if self._stopping else AttemptFailed("failed", "the backend cancelled its own work")
        error = work.exception()
        if error is None:
            return work.result()
        if isinstance(error, AttemptFailed):
            raise error
        what = str(error) if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
        raise AttemptFailed("failed", what[:_MAX_MESSAGE]) from error

    def _stopped(self) -> AttemptFailed:
        return AttemptFailed("unavailable", f"{self.config.name} is being stopped")


def _with_what_is_left(call: Call, arrived: float) -> Call:
    """The call as the backend gets it: its time in the queue is off its deadline."""
    waited_ms = int((asyncio.get_running_loop().time() - arrived) * 1000)
    return msgspec.structs.replace(call, timeout_ms=max(1, call.timeout_ms - waited_ms)) if waited_ms else call
