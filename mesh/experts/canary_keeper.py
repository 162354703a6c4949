"""Asks canaries at random times, and records what came of each."""

from collections.abc import Callable, Sequence

import structlog

from mesh.clock import Clock
from mesh.config import CanaryConfig
from mesh.events.journal import Journal
from mesh.events.vocabulary.requests import RequestCanaryChecked
from mesh.experts.canaries import draw, name_of, passes, wait_s
from mesh.experts.exact import Dice
from mesh.experts.known import Target
from mesh.experts.normalise import group_of
from mesh.experts.queries import Outcome, Query, QueryFailed, QueryRejected
from mesh.experts.requests import Requests
from mesh.experts.state import RoutingState
from mesh.keeper import Keeper

# How a canary is named among the callers; the expert that is asked sees no caller.
CALLER = "canary"
_TIMEOUT_S = 60.0
_SEED_MASK = (1 << 53) - 1

log = structlog.get_logger(__name__)


class CanaryKeeper:
    """One known question about every ``interval_s``, to one expert, asked twice under one id.

    They go the way of every request, so that an expert cannot tell them from others.
    """

    def __init__(
        self,
        requests: Requests,
        journal: Journal,
        state: RoutingState,
        canaries: Sequence[CanaryConfig],
        *,
        interval_s: float,
        clock: Clock,
        make_seed: Callable[[], int],
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._state = state
        self._canaries = canaries
        self._interval_s = interval_s
        self._clock = clock
        self._make_seed = make_seed
        self.keeper = Keeper("ask canaries")

    async def start(self) -> None:
        """Begin, where there is anything to ask."""
        if self._canaries:
            self.keeper.begin(self._keep())

    async def stop(self) -> None:
        """Ask no more."""
        await self.keeper.end()

    async def _keep(self) -> None:
        while True:
            seed = self._make_seed() & _SEED_MASK
            dice = Dice(seed)
            await self._clock.sleep(wait_s(dice, self._interval_s))
            drawn = draw(self._state, self._canaries, dice)
            if drawn is not None:
                await self.check(*drawn, seed)

    async def check(self, canary: CanaryConfig, target: Target, seed: int) -> None:
        """Ask one expert one known question, and record the verdict."""
        query = Query(
            content=canary.question,
            domain=canary.domain,
            expert=target.expert,
            peer=target.peer,
            strategy="consensus",
            fan_out=1,
            repeat=2,
            caller=CALLER,
            timeout_s=_TIMEOUT_S,
        )
        try:
            outcome = await self._requests.ask(query)
        except QueryRejected as rejected:  # the node has enough to do
            log.debug("a canary was not asked", reason=rejected.message)
        except QueryFailed as failure:
            double = failure.count is not None and failure.count.equivocated
            self._record(canary, target, seed, failure.request, "equivocated" if double else "unanswered")
        else:
            verdict = "passed" if passes(canary, outcome.text) else "failed"
            self._record(canary, target, seed, outcome.request, verdict, outcome)

    def _record(
        self,
        canary: CanaryConfig,
        target: Target,
        seed: int,
        request: str,
        verdict: str,
        outcome: Outcome | None = None,
    ) -> None:
        fact = RequestCanaryChecked(
            request=request,
            canary=name_of(canary),
            domain=canary.domain,
            peer=target.peer,
            expert=target.expert,
            outcome=verdict,
            expected=group_of(canary.expected),
            group=group_of(outcome.text) if outcome is not None else "",
            latency_ms=outcome.latency_ms if outcome is not None else -1.0,
            draw=seed,
        )
        self._journal.emit(fact, subject=request, correlation=request)
