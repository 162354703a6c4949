"""The life of a request: taken in, routed, tried until there is an answer, and ended by exactly one fact."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from mesh.clock import Clock
from mesh.config import CacheConfig, RoutingConfig
from mesh.errors import JournalError
from mesh.events.envelope import Fact
from mesh.events.journal import Emission, Journal
from mesh.events.vocabulary.requests import RequestCancelled, RequestClassified, RequestFailed, RequestRejected
from mesh.experts.answers import tally, verify_answer
from mesh.experts.attempt import Services, clean
from mesh.experts.attempts import Attempts
from mesh.experts.cache import AnswerCache
from mesh.experts.calls import Emit
from mesh.experts.classifier import Classifier
from mesh.experts.delivery import Delivery
from mesh.experts.departures import Departures
from mesh.experts.embedder import Embedder
from mesh.experts.equivocation import Verify
from mesh.experts.fair_share import has_room
from mesh.experts.guessing import hint, with_hint
from mesh.experts.keeping import ContentKeeper
from mesh.experts.plan import Plan, classified, is_open, make_plan
from mesh.experts.ports import LocalAsk, RemoteAsk
from mesh.experts.queries import AUTO, Outcome, Query, QueryFailed, QueryRejected, RejectionKind, parse_query
from mesh.experts.recovery import recover
from mesh.experts.splitting import Splitting
from mesh.experts.state import RoutingState
from mesh.experts.strategies import Result
from mesh.experts.strategies.fallback import run_strategy
from mesh.experts.trail import completed_fact, received_fact
from mesh.ids import new_id

log = structlog.get_logger(__name__)

# A domain, and for how many seconds somebody who serves it may be looked for.
Seek = Callable[[str, float], Awaitable[None]]
_SEEK_S = 8.0


class Requests:
    """Answers queries. The ``state`` must be one of the journal's folds.

    Every request that is received ends in exactly one of completed, failed, cancelled or (when the process dies)
    interrupted. Nothing is returned or raised for it before that fact is stored, except to a caller that has
    itself gone away.
    """

    def __init__(
        self,
        journal: Journal,
        state: RoutingState,
        local: LocalAsk,
        remote: RemoteAsk,
        config: RoutingConfig,
        *,
        peer_id: str,
        clock: Clock,
        make_seed: Callable[[], int],
        make_id: Callable[[], str] = new_id,
        verify: Verify = verify_answer,
        seek: Seek | None = None,
        cache: AnswerCache | None = None,
        content: ContentKeeper | None = None,
        embedder: Embedder | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        self._services = Services(
            peer_id=peer_id,
            journal=journal,
            state=state,
            local=local,
            remote=remote,
            departures=Departures(journal),
            clock=clock,
            make_seed=make_seed,
            verify=verify,
            embedder=embedder,
        )
        self._classifier = classifier or Classifier(default=config.default_domain)
        self._cache = AnswerCache(CacheConfig(), clock.monotonic) if cache is None else cache
        self._journal = journal
        self._config = config
        self._make_id = make_id
        self._seek = seek
        self._splitting = Splitting(self._classifier, config, state, self._look_further)
        self._by_caller: Counter[str] = Counter()
        self._content = content or ContentKeeper.in_memory(config, clock)
        self._undecided: set[asyncio.Task[Result]] = set()
        self._storing: set[asyncio.Task[Result]] = set()
        self._stopping = ""

    @property
    def in_flight(self) -> int:
        """Requests that have no outcome yet."""
        return len(self._undecided)

    async def ask(
        self,
        query: Query | Mapping[str, Any],
        emit: Emit | None = None,
        *,
        taken: Callable[[str], None] = lambda _request: None,
    ) -> Outcome:
        """Answer a query; pieces of the answer go to ``emit`` as they come, if the query wants them so.

        ``taken`` is told the request's id as soon as it has one.

        Raises QueryRejected (bad input, too much to do, shutting down), QueryFailed (no answer could be had), and
        JournalError when what happened cannot be stored.
        """
        plan, parsed = self._take_in(query, streams=emit is not None)
        taken(plan.request)
        delivery = Delivery(None if plan.whole else emit, held=plan.held)
        attempts = Attempts(plan, self._services, delivery)
        task = asyncio.create_task(self._live(attempts, parsed), name=f"request {plan.request}")
        self._undecided.add(task)
        self._by_caller[plan.caller] += 1
        try:
            result = await task
        except asyncio.CancelledError:
            if _caller_is_cancelled():
                raise
            raise QueryFailed("cancelled", self._stopping, request=plan.request) from None
        finally:
            self._undecided.discard(task)
            self._storing.discard(task)
            self._by_caller -= Counter((plan.caller,))
        await self._hand_over(result.text, emit, delivery, plan)
        return self._outcome(attempts, result)

    def refuse(self, caller: str, message: str) -> str:
        """Record that something was asked which is no query at all; returns the id that it has in the journal."""
        return self._reject(self._make_id(), caller, "invalid", message, "").request

    async def close(self, reason: str = "the node is stopping") -> None:
        """Take nothing more in, cancel what has no outcome yet, and return when every outcome is stored."""
        self._stopping = reason
        tasks = self._undecided | self._storing
        for task in self._undecided:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- taken in --------------------------------------------------------------------------------------------

    def _take_in(self, query: Query | Mapping[str, Any], *, streams: bool) -> tuple[Plan, Query]:
        request = self._make_id()
        caller = query.caller if isinstance(query, Query) else query.get("caller", "")
        self._admit(request, caller)
        try:
            parsed = query if isinstance(query, Query) else parse_query(query)
            plan = make_plan(request, parsed, self._config, self._services.state)
        except ValueError as error:
            raise self._reject(request, caller, "invalid", str(error), "Correct the request.") from None
        if not (plan.held or streams):
            message = "delivery = 'pieces' hands the answer on piece by piece, and nobody takes the pieces"
            raise self._reject(request, caller, "invalid", message, "Ask for a stream.")
        return plan, parsed

    def _admit(self, request: str, caller: object) -> None:
        config, backlog = self._config, self._journal.backlog
        if self._stopping:
            raise self._reject(request, caller, "stopping", self._stopping, "Ask another node.")
        own, callers = self._by_caller[str(caller)], len(self._by_caller)
        if not has_room(own, len(self._undecided), callers, config.max_in_flight):
            message = f"{own} of {len(self._undecided)} requests in flight are this caller's, of {callers} callers"
            raise self._reject(request, caller, "overloaded", message, "Wait for answers before you ask more.")
        if len(self._undecided) >= config.max_in_flight:
            message = f"{len(self._undecided)} requests are in flight; routing.max_in_flight is {config.max_in_flight}"
            raise self._reject(request, caller, "overloaded", message, "Try again later.")
        if backlog >= config.max_backlog:
            message = f"{backlog} events wait to be stored; routing.max_backlog is {config.max_backlog}"
            raise self._reject(request, caller, "overloaded", message, "Try again later.")

    def _reject(self, request: str, caller: object, kind: RejectionKind, message: str, remedy: str) -> QueryRejected:
        """Record the rejection, unless the store is so far behind that even this would make it worse."""
        if self._journal.backlog < 2 * self._config.max_backlog:
            fact = RequestRejected(request=request, caller=clean(str(caller), 128), kind=kind, message=clean(message))
            self._record(request, fact)
        return QueryRejected(kind, message, request=request, remedy=remedy)

    # -- alive -----------------------------------------------------------------------------------------------

    async def _live(self, attempts: Attempts, query: Query) -> Result:
        """From received to its outcome; a task that is cancelled before it starts leaves no trace at all."""
        plan = attempts.plan
        domain = AUTO if is_open(plan) or plan.parts else plan.domain
        keeping = self._content.begin(plan.request, plan.caller, self._content.policy(domain, plan.keep))
        attempts.journal_keeps_text = keeping.policy == "full"
        attempts.record(received_fact(plan, keeping))
        try:
            await self._classify(attempts, query)
            result = await self._answer(attempts, query)
        except asyncio.CancelledError:
            self._cancelled(attempts, self._stopping or "the caller took it back")
            raise
        except QueryFailed as failure:
            await self._failed(attempts, failure)
            raise
        except JournalError:
            raise
        except Exception as error:
            log.exception("a strategy failed", request=attempts.plan.request)
            fault = QueryFailed("failed", f"{type(error).__name__}: {error}")
            await self._failed(attempts, fault)
            raise fault from error
        await self._end(completed_fact(attempts, result, keeping), attempts.plan.request)
        return result

    async def _answer(self, attempts: Attempts, query: Query) -> Result:
        """What an equal request has found, or finds at this moment; else what the strategy does."""
        async with self._cache.turn(attempts.plan, attempts.remaining_s) as turn:
            if turn.kept is not None:
                return turn.kept
            attempts.parts = await self._splitting.plans(attempts, query)
            if not attempts.parts:
                await self._look_further(attempts.plan, attempts.plan.route_domain)
            result = await run_strategy(attempts)
            turn.found(result, whole=attempts.plan.strategy != "distributed" or not attempts.failures)
        return result

    async def _classify(self, attempts: Attempts, query: Query) -> None:
        """Settle the domain where the caller left it open, and record the choice."""
        plan, before = attempts.plan, attempts.elapsed_ms
        if not is_open(plan):
            return
        found = await self._classifier.classify(plan.content, attempts.remaining_s)
        attempts.plan = classified(plan, found.domain, found.by, query, self._config, self._services.state)
        attempts.record(
            RequestClassified(
                request=plan.request,
                domain=found.domain,
                by=found.by,
                scores=found.scores,
                took_ms=round(attempts.elapsed_ms - before, 3),
                note=clean(found.note),
            )
        )

    async def _look_further(self, plan: Plan, domain: str) -> None:
        """Where nobody known serves the domain, somebody unknown may; the caller's time bounds the search."""
        elsewhere = domain and not (plan.expert or plan.peer) and plan.strategy != "local_only"
        if self._seek is not None and elsewhere:
            await self._seek(domain, min(plan.timeout_s / 2, _SEEK_S))

    async def _failed(self, attempts: Attempts, failure: QueryFailed) -> None:
        """The one fact of a request without an answer. Raises the caller's own error where that ended it."""
        failure.request = attempts.plan.request
        failure.failures = tuple(attempts.failures)
        gone = attempts.delivery.gone
        if gone is not None:
            self._cancelled(attempts, f"the caller took no more of the answer ({type(gone).__name__})")
            raise gone
        more = hint(failure.kind, attempts.parts or (attempts.plan,), attempts.guessed)
        message = with_hint(attempts.fit(clean(failure.message)), more)
        failure.reword(with_hint(failure.message, more))
        fact = RequestFailed(
            request=failure.request,
            kind=failure.kind,
            message=message,
            attempts=attempts.count,
            latency_ms=attempts.elapsed_ms,
            votes=failure.votes,
            failures=failure.failures,
            count=failure.count,
            parts=failure.parts,
        )
        await self._end(fact, failure.request)

    def _cancelled(self, attempts: Attempts, reason: str) -> None:
        request = attempts.plan.request
        fact = RequestCancelled(request=request, reason=clean(reason), latency_ms=attempts.elapsed_ms)
        try:
            self._record(request, fact)
        except JournalError:
            log.exception("a cancelled request is not in the journal", request=request)
        self._decided()

    async def _end(self, fact: Fact, request: str) -> None:
        emission = self._record(request, fact)
        self._decided()
        await emission.stored()

    def _decided(self) -> None:
        """From here on a shutdown waits for the request instead of cancelling it."""
        task = asyncio.current_task()
        if task in self._undecided:
            self._undecided.discard(task)
            self._storing.add(task)

    def _record(self, request: str, fact: Fact) -> Emission:
        return self._journal.emit(fact, subject=request, correlation=request)

    # -- handed over -----------------------------------------------------------------------------------------

    async def _hand_over(self, text: str, emit: Emit | None, delivery: Delivery, plan: Plan) -> None:
        """Stored by now. A caller that cannot take the end of the answer gets its own error back."""
        rest = text if plan.whole else delivery.rest_of(text)
        if emit is not None and rest:
            await emit(rest)

    def _outcome(self, attempts: Attempts, result: Result) -> Outcome:
        plan = attempts.plan
        return Outcome(
            request=plan.request,
            text=result.text,
            digest=tally(result).digest,
            domain=plan.domain,
            strategy=plan.strategy,
            policy=plan.policy,
            peers=tuple(dict.fromkeys(winner.peer for winner in result.winners)),
            expert=result.winners[0].expert,
            model=result.model,
            latency_ms=attempts.elapsed_ms,
            attempts=attempts.count,
            agreement=result.agreement,
            tokens_in=result.tokens_in,
            tokens_out=result.tokens_out,
            format=result.format,
            finish_reason=result.finish_reason,
            votes=result.votes,
            failures=tuple(attempts.failures),
            fallback=result.fallback,
            cached_from=result.cached_from,
            count=result.count,
            parts=result.parts,
        )


def _caller_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


__all__ = ["Requests", "recover"]
