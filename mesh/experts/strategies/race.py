"""One attempt, and where it is late a second one beside it: the first answer counts, the other is taken back."""

import asyncio

from mesh.events.vocabulary.requests import RequestHedged
from mesh.experts.attempt import Answered
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AttemptFailed
from mesh.experts.delivery import Delivery
from mesh.experts.hedging import MARGIN_MS
from mesh.experts.known import Target
from mesh.experts.routing import RoutingDecision


class Lane(Delivery):
    """What one of several attempts streams: once one of them has delivered a piece, the others are out."""

    def __init__(self, race: "Race", delivery: Delivery) -> None:
        super().__init__(None)
        self._race = race
        self._delivery = delivery

    @property
    def streams(self) -> bool:
        """See `Delivery`."""
        return self._delivery.streams

    @property
    def begun(self) -> bool:
        """Whether the caller has anything of this one."""
        return self._race.leader is self and self._delivery.begun

    async def piece(self, text: str, by: Target) -> None:
        """See `Delivery`. Raises AttemptFailed("cancelled") also when another one was faster."""
        if not text or not self.streams:
            return
        if self._race.leader is None:
            self._race.lead(self)
        if self._race.leader is not self:
            raise AttemptFailed("cancelled", "another expert was faster")
        await self._delivery.piece(text, by)

    def unsay(self, by: Target) -> None:
        """See `Delivery`."""
        self._delivery.unsay(by)


class Race:
    """Asks the first of a decision, and hedges once. ``asked`` is everybody who was asked, in that order."""

    def __init__(self, attempts: Attempts, decision: RoutingDecision, tried: tuple[Target, ...]) -> None:
        self._attempts = attempts
        self._decision = decision
        self._tried = tried
        self._running: dict[asyncio.Task[Answered], Lane] = {}
        self.leader: Lane | None = None
        self.asked: tuple[Target, ...] = ()

    async def run(self) -> Answered:
        """The first answer. Raises AttemptFailed, that of the last one to fail, or of the one that had delivered."""
        p95_ms = self._attempts.usual_p95_ms(self._decision)
        first = self._decision.chosen[0]
        if p95_ms < 0:
            self.asked = (first,)
            return await self._attempts.ask(first, self._attempts.delivery)
        try:
            self._ask(first)
            done, _ = await asyncio.wait(self._running, timeout=(p95_ms + MARGIN_MS) / 1000)
            if not done and self.leader is None:
                self._hedge(first, p95_ms)
            return await self._first()
        finally:
            await self._take_back(tuple(self._running))

    def lead(self, lane: Lane) -> None:
        """``lane`` was the first to deliver: it is the answer, whatever becomes of it."""
        self.leader = lane
        for task, other in self._running.items():
            if other is not lane:
                task.cancel()

    def _ask(self, target: Target) -> None:
        lane = Lane(self, self._attempts.delivery)
        task = asyncio.create_task(self._attempts.ask(target, lane), name=f"ask {target}")
        self._running[task] = lane
        self.asked += (target,)

    def _hedge(self, first: Target, p95_ms: float) -> None:
        number = self._attempts.number
        decision = self._attempts.route(excluded=(*self._tried, first), purpose="hedge")
        for target in decision.chosen:
            self._attempts.record(
                RequestHedged(
                    request=self._attempts.plan.request,
                    attempt=number,
                    peer=first.peer,
                    expert=first.expert,
                    by_peer=target.peer,
                    by_expert=target.expert,
                    after_ms=p95_ms + MARGIN_MS,
                    p95_ms=p95_ms,
                )
            )
            self._ask(target)

    async def _first(self) -> Answered:
        failure: AttemptFailed | None = None
        while self._running:
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                lane = self._running.pop(task)
                try:
                    return task.result()
                except AttemptFailed as failed:
                    if lane is self.leader or not self._attempts.may_retry(failed):
                        raise
                    failure = failed
                except asyncio.CancelledError:
                    continue  # another one leads
        assert failure is not None
        raise failure

    async def _take_back(self, tasks: "tuple[asyncio.Task[Answered], ...]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
