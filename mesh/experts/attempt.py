"""One attempt of a request: dispatched to one expert, and recorded with what came of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from mesh.clock import Clock
from mesh.errors import JournalError
from mesh.events.envelope import Fact
from mesh.events.journal import Emission, Journal
from mesh.events.vocabulary.requests import RequestAnswered, RequestAttemptFailed, RequestDispatched
from mesh.experts.answers import tally, verify_answer
from mesh.experts.calls import Answer, AttemptFailed, Call
from mesh.experts.delivery import Delivery
from mesh.experts.departures import Departures
from mesh.experts.ejection import judge
from mesh.experts.embedder import Embedder
from mesh.experts.equivocation import Verify
from mesh.experts.known import Target
from mesh.experts.plan import Plan
from mesh.experts.ports import LocalAsk, RemoteAsk
from mesh.experts.state import RoutingState

# With less time than this left nothing is sent any more.
MIN_ATTEMPT_S = 0.005
MAX_MESSAGE_CHARS = 500

log = structlog.get_logger(__name__)


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
    embedder: Embedder | None = None


@dataclass(frozen=True)
class Answered:
    """An attempt that led to an answer."""

    target: Target
    answer: Answer
    digest: str


class Request(Protocol):
    """What an attempt needs of the request that it belongs to (`mesh.experts.attempts.Attempts`)."""

    plan: Plan

    def next_number(self) -> int:
        """The number of an attempt that is about to be dispatched."""
        ...

    @property
    def remaining_s(self) -> float:
        """What is left of the caller's time."""
        ...

    def record(self, fact: Fact) -> Emission:
        """Emit a fact of this request."""
        ...

    def purpose_of(self, target: Target) -> str:
        """What for it is asked."""
        ...


class Attempt:
    """One dispatch, and exactly one of answered and attempt_failed after it."""

    def __init__(self, request: "Request", services: Services, target: Target, delivery: Delivery) -> None:
        self._request = request
        self._services = services
        self._target = target
        self._delivery = delivery
        self._number = 0
        self._sent_at = 0.0
        self._first_token_ms = -1.0

    async def run(self, *, signed: bool) -> Answered:
        """Ask, and record what came of it. Raises AttemptFailed."""
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
        plan, target = self._request.plan, self._target
        timeout_ms = int(self._request.remaining_s * 1000)
        if timeout_ms < MIN_ATTEMPT_S * 1000:
            raise AttemptFailed("expired", f"nothing is left of the {plan.timeout_s:g} s that the caller gave")
        self._refuse_the_dead()
        self._number = self._request.next_number()
        self._sent_at = self._services.clock.monotonic()
        self._request.record(
            RequestDispatched(
                request=plan.request,
                attempt=self._number,
                peer=target.peer,
                expert=target.expert,
                timeout_ms=timeout_ms,
                purpose=self._request.purpose_of(target),
                part=plan.part,
            )
        )
        return Call(
            request=plan.known_as,
            expert=target.expert,
            domain=self._domain(),
            content=plan.content,
            timeout_ms=timeout_ms,
            options=plan.options,
            chat=plan.chat,
            task=plan.task,
            caller=plan.caller,
            keep=plan.keep,
            held=plan.held,
        )

    def _refuse_the_dead(self) -> None:
        """Between a decision and its dispatch another task may have learnt that the peer is gone."""
        target = self._target
        peer = self._services.state.peers.get(target.peer)
        if target.peer != self._services.peer_id and (peer is None or not peer.connected or peer.liveness == "down"):
            raise AttemptFailed("disconnected", "the peer was lost before the request was sent")

    def _domain(self) -> str:
        wanted = self._request.plan.domain
        offer = self._services.state.offers.get(self._target.peer, {}).get(self._target.expert)
        return wanted if offer is None or not offer.domains or wanted in offer.domains else offer.domains[0]

    async def _send(self, call: Call) -> Answer:
        services, target = self._services, self._target
        if target.peer == services.peer_id:
            answer = await services.local.ask(call, self._piece, caller=services.peer_id)
        else:
            answer = await services.remote.ask(target.peer, call, self._piece if self._delivery.streams else None)
        return answer if call.held else await self._pass_on(answer)

    async def _pass_on(self, answer: Answer) -> Answer:
        """An answer that is not to be held; where it did not come in pieces it is one now."""
        if answer.passed is not None:
            return answer
        all_of_it = tally(answer)
        await self._piece(answer.text)
        return msgspec.structs.replace(answer, text="", passed=all_of_it)

    async def _piece(self, text: str) -> None:
        if text and self._first_token_ms < 0:
            self._first_token_ms = self._elapsed_ms()
        await self._delivery.piece(text, self._target)

    def _answered(self, call: Call, answer: Answer, *, signed: bool) -> Answered:
        target, all_of_it = self._target, tally(answer)
        if signed and not self._services.verify(
            target.peer,
            answer.signature,
            request=call.request,
            expert=target.expert,
            model=answer.model,
            digest=all_of_it.digest,
        ):
            raise AttemptFailed("protocol", "the signature of the answer is not that of the peer that gave it")
        self._request.record(
            RequestAnswered(
                request=self._request.plan.request,
                attempt=self._number,
                peer=target.peer,
                expert=target.expert,
                model=clean(answer.model),
                latency_ms=self._elapsed_ms(),
                first_token_ms=self._first_token_ms if self._first_token_ms >= 0 else float(answer.first_token_ms),
                tokens_in=answer.tokens_in,
                tokens_out=answer.tokens_out,
                answer_bytes=all_of_it.size,
                answer_digest=all_of_it.digest,
                signature=clean(answer.signature),
                part=self._request.plan.part,
            )
        )
        self._judge()
        return Answered(target, answer, all_of_it.digest)

    def _failed(self, failure: AttemptFailed) -> None:
        if not self._number:
            return
        self._request.record(
            RequestAttemptFailed(
                request=self._request.plan.request,
                attempt=self._number,
                peer=self._target.peer,
                expert=self._target.expert,
                kind=failure.kind,
                message=clean(failure.message),
                retryable=failure.retryable and not self._delivery.begun,
                latency_ms=self._elapsed_ms(),
            )
        )
        if failure.kind != "disconnected":  # a lost peer is left alone while it is away, and no longer
            self._judge()

    def _judge(self) -> None:
        """What the outcome just recorded means for the expert is a choice, and recorded too."""
        verdict = judge(self._services.state, self._target, self._request.plan.rules)
        if verdict is not None:
            self._request.record(verdict)

    def _cancelled(self) -> None:
        """Record it; a journal that has failed must not turn a cancellation into something else."""
        try:
            self._failed(AttemptFailed("cancelled", "it was no longer needed"))
        except JournalError:
            log.exception("a cancelled attempt is not in the journal", request=self._request.plan.request)

    def _elapsed_ms(self) -> float:
        return round((self._services.clock.monotonic() - self._sent_at) * 1000, 3)


def clean(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Text from elsewhere, fit for an event: valid Unicode, and bounded."""
    valid = text[:limit].encode("utf-8", "replace").decode()
    return valid if len(text) <= limit else f"{valid}…"
