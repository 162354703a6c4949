"""The attempts of one request: each routed from the journal, dispatched, and recorded with what came of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from mesh.clock import Clock
from mesh.errors import JournalError
from mesh.events.envelope import Fact
from mesh.events.journal import Emission, Journal
from mesh.events.vocabulary.requests import RequestAnswered, RequestAttemptFailed, RequestDispatched
from mesh.experts.answers import digest, verify_answer
from mesh.experts.calls import Answer, AttemptFailed, Call
from mesh.experts.candidates import RoutingInputs
from mesh.experts.delivery import Delivery
from mesh.experts.departures import Departures
from mesh.experts.known import Target
from mesh.experts.plan import Plan
from mesh.experts.policies import policy_named
from mesh.experts.ports import LocalAsk, RemoteAsk
from mesh.experts.queries import QueryFailed
from mesh.experts.routing import RoutingDecision, decide, routed_fact
from mesh.experts.state import RoutingState

# With less time than this left nothing is sent any more.
MIN_ATTEMPT_S = 0.005
MAX_MESSAGE_CHARS = 500
_SEED_MASK = (1 << 53) - 1

log = structlog.get_logger(__name__)


class Verify(Protocol):
    """`mesh.experts.answers.verify_answer`."""

    def __call__(self, peer_id: str, signature: str, *, request: str, expert: str, model: str, digest: str) -> bool:
        """Whether the signature is that of the peer over just this answer."""
        ...


@dataclass(frozen=True)
class Services:
    """What every request shares."""

    peer_id: str
    journal: Journal
    state: RoutingState
    local: LocalAsk
    remote: RemoteAsk
    departures: Departures
    clock: Clock
    make_seed: Callable[[], int]
    verify: Verify = verify_answer


@dataclass(frozen=True)
class Answered:
    """An attempt that led to an answer."""

    target: Target
    answer: Answer
    digest: str


class Attempts:
    """Routes and makes the attempts of one request, in whatever order its strategy wants them."""

    def __init__(self, plan: Plan, services: Services, delivery: Delivery) -> None:
        self.plan = plan
        self.delivery = delivery
        self.count = 0
        self.failures: list[str] = []
        self._services = services
        self._started = services.clock.monotonic()

    @property
    def local(self) -> str:
        """This node's PeerId."""
        return self._services.peer_id

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the request was taken in."""
        return round((self._services.clock.monotonic() - self._started) * 1000, 3)

    @property
    def remaining_s(self) -> float:
        """What is left of the caller's time."""
        return self._started + self.plan.timeout_s - self._services.clock.monotonic()

    def record(self, fact: Fact) -> Emission:
        """Emit a fact of this request."""
        request = self.plan.request
        return self._services.journal.emit(fact, subject=request, correlation=request)

    def route(
        self, k: int = 1, *, scope: str = "any", spread: bool = False, excluded: tuple[Target, ...] = ()
    ) -> RoutingDecision:
        """Decide whom to ask next, and record the decision with all that it saw."""
        services, plan = self._services, self.plan
        inputs = RoutingInputs(
            request=plan.request,
            attempt=self.count + 1,
            domain=plan.route_domain,
            domain_by=plan.domain_by,
            expert=plan.expert,
            peer=plan.peer,
            strategy=plan.strategy,
            policy=plan.policy,
            policy_version=policy_named(plan.policy).version,
            k=k,
            excluded=excluded,
            scope=scope,
            spread=spread,
            now=services.clock.now(),
            seed=services.make_seed() & _SEED_MASK,
            local=services.peer_id,
        )
        decision = decide(services.state, inputs)
        self.record(routed_fact(inputs, decision, services.journal.position))
        return decision

    async def ask(self, target: Target, delivery: Delivery | None = None, *, signed: bool = False) -> Answered:
        """Ask one expert and record what came of it; with ``signed`` an answer must prove who gave it.

        Raises AttemptFailed; a broken stream, of which the caller already has a part, is never retryable.
        """
        attempt = _Attempt(self, self._services, target, delivery or Delivery(None))
        try:
            return await attempt.run(signed=signed)
        except AttemptFailed as failure:
            self.failures.append(f"{target}: {failure.kind}")
            raise

    def may_retry(self, failure: AttemptFailed) -> bool:
        """Whether to ask somebody else: the failure allows it, there is time, and the caller has nothing yet.

        A peer that says ``expired`` long before the deadline has a limit of its own; another may have not.
        """
        wanted = self.delivery.gone is None and not self.delivery.begun and self.remaining_s > MIN_ATTEMPT_S
        return wanted and (failure.retryable or failure.kind == "expired")

    def failed(self, failure: AttemptFailed) -> QueryFailed:
        """What the caller is told when this failure decided the request."""
        if self.delivery.begun and failure.kind != "cancelled":
            have = self.delivery.text
            message = f"the answer broke off after {len(have)} characters: {failure.message}"
            return QueryFailed("broken_stream", message, partial=have)
        return QueryFailed(failure.kind, failure.message)


class _Attempt:
    """One dispatch, and exactly one of answered and attempt_failed after it."""

    def __init__(self, attempts: Attempts, services: Services, target: Target, delivery: Delivery) -> None:
        self._attempts = attempts
        self._services = services
        self._target = target
        self._delivery = delivery
        self._number = 0
        self._sent_at = 0.0
        self._first_token_ms = -1.0

    async def run(self, *, signed: bool) -> Answered:
        call = self._dispatch()
        try:
            async with self._services.departures.wait(self._target.peer, call.timeout_ms / 1000):
                answer = await self._send(call)
            return self._answered(call, answer, signed=signed)
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except AttemptFailed as failure:
            self._failed(failure)
            raise
        except JournalError:
            raise
        except Exception as error:
            log.exception("an expert raised what it should not", expert=str(self._target))
            fault = AttemptFailed("failed", f"{type(error).__name__}: {error}")
            self._failed(fault)
            raise fault from error

    def _dispatch(self) -> Call:
        plan, target = self._attempts.plan, self._target
        timeout_ms = int(self._attempts.remaining_s * 1000)
        if timeout_ms < MIN_ATTEMPT_S * 1000:
            raise AttemptFailed("expired", f"nothing is left of the {plan.timeout_s:g} s that the caller gave")
        self._refuse_the_dead()
        self._attempts.count += 1
        self._number = self._attempts.count
        self._sent_at = self._services.clock.monotonic()
        self._attempts.record(
            RequestDispatched(
                request=plan.request,
                attempt=self._number,
                peer=target.peer,
                expert=target.expert,
                timeout_ms=timeout_ms,
            )
        )
        return Call(
            request=plan.request,
            expert=target.expert,
            domain=self._domain(),
            content=plan.content,
            timeout_ms=timeout_ms,
            options=plan.options,
        )

    def _refuse_the_dead(self) -> None:
        """Between a decision and its dispatch another task may have learnt that the peer is gone."""
        target = self._target
        peer = self._services.state.peers.get(target.peer)
        if target.peer != self._services.peer_id and (peer is None or not peer.connected or peer.liveness == "down"):
            raise AttemptFailed("disconnected", "the peer was lost before the request was sent")

    def _domain(self) -> str:
        wanted = self._attempts.plan.domain
        offer = self._services.state.offers.get(self._target.peer, {}).get(self._target.expert)
        return wanted if offer is None or not offer.domains or wanted in offer.domains else offer.domains[0]

    async def _send(self, call: Call) -> Answer:
        services, target = self._services, self._target
        if target.peer == services.peer_id:
            return await services.local.ask(call, self._piece, caller=services.peer_id)
        return await services.remote.ask(target.peer, call, self._piece if self._delivery.streams else None)

    async def _piece(self, text: str) -> None:
        if text and self._first_token_ms < 0:
            self._first_token_ms = self._elapsed_ms()
        await self._delivery.piece(text)

    def _answered(self, call: Call, answer: Answer, *, signed: bool) -> Answered:
        target = self._target
        try:
            size = len(answer.text.encode())
        except UnicodeEncodeError as error:
            raise AttemptFailed("failed", f"the answer is not Unicode text: {error.reason}") from None
        text_digest = digest(answer.text)
        if signed and not self._services.verify(
            target.peer,
            answer.signature,
            request=call.request,
            expert=target.expert,
            model=answer.model,
            digest=text_digest,
        ):
            raise AttemptFailed("protocol", "the signature of the answer is not that of the peer that gave it")
        self._attempts.record(
            RequestAnswered(
                request=call.request,
                attempt=self._number,
                peer=target.peer,
                expert=target.expert,
                model=clean(answer.model),
                latency_ms=self._elapsed_ms(),
                first_token_ms=self._first_token_ms if self._first_token_ms >= 0 else float(answer.first_token_ms),
                tokens_in=answer.tokens_in,
                tokens_out=answer.tokens_out,
                answer_bytes=size,
                answer_digest=text_digest,
                signature=clean(answer.signature),
            )
        )
        return Answered(target, answer, text_digest)

    def _failed(self, failure: AttemptFailed) -> None:
        if not self._number:
            return
        self._attempts.record(
            RequestAttemptFailed(
                request=self._attempts.plan.request,
                attempt=self._number,
                peer=self._target.peer,
                expert=self._target.expert,
                kind=failure.kind,
                message=clean(failure.message),
                retryable=failure.retryable and not self._delivery.begun,
                latency_ms=self._elapsed_ms(),
            )
        )

    def _cancelled(self) -> None:
        """Record it; a journal that has failed must not turn a cancellation into something else."""
        try:
            self._failed(AttemptFailed("cancelled", "it was no longer needed"))
        except JournalError:
            log.exception("a cancelled attempt is not in the journal", request=self._attempts.plan.request)

    def _elapsed_ms(self) -> float:
        return round((self._services.clock.monotonic() - self._sent_at) * 1000, 3)


def clean(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Text from elsewhere, fit for an event: valid Unicode, and bounded."""
    valid = text[:limit].encode("utf-8", "replace").decode()
    return valid if len(text) <= limit else f"{valid}…"
