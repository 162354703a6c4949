"""The trail of one served call: its times, its signature, and its one ``request.served``."""

import msgspec
import structlog

from mesh.clock import Clock
from mesh.errors import JournalError
from mesh.events.journal import Emission, Journal
from mesh.events.vocabulary.requests import RequestServed
from mesh.experts.answers import Tally, sign_answer, tally, utf8
from mesh.experts.calls import MAX_PASSED, Answer, AttemptFailed, Call, Emit
from mesh.experts.content import WITHHELD, repeats
from mesh.experts.keeping import ContentKeeper, Keeping, served_texts
from mesh.experts.wire import fit_model
from mesh.identity import Identity

# The longest answer that is held, in bytes: an expert that never comes to an end must not fill the memory.
MAX_ANSWER = 8 << 20
_MAX_ERROR = 1000
_OUTCOMES = ("cancelled", "overloaded", "expired")

log = structlog.get_logger(__name__)


class Serving:
    """Follows one call from its arrival to its outcome. Exactly one of its outcome methods is called, once."""

    def __init__(
        self, call: Call, caller: str, identity: Identity, journal: Journal, clock: Clock, content: ContentKeeper
    ) -> None:
        self._call = call
        self._caller = caller
        self._identity = identity
        self._journal = journal
        self._clock = clock
        self._content = content
        self._arrived = clock.monotonic()
        self._queued_ms = -1.0
        self._first_token_ms = -1.0
        self._emitted = 0
        self._limit = MAX_ANSWER if call.held else MAX_PASSED
        self._passed = None if call.held else Tally()
        self._over = False

    def started(self) -> None:
        """The call has its slot; until now it waited."""
        self._queued_ms = self._elapsed_ms()

    def watch(self, emit: Emit) -> Emit:
        """``emit``, noting when the first piece came, and refusing what comes after the call is over."""

        async def watched(piece: str) -> None:
            if self._over:
                raise AttemptFailed("cancelled", "the call is over")
            self._emitted += len(piece)
            if self._emitted > self._limit:
                raise _too_long(self._emitted, self._limit)
            if self._passed is not None:
                self._passed.add(utf8(piece))
            if piece and self._first_token_ms < 0:
                self._first_token_ms = self._elapsed_ms()
            await emit(piece)

        return watched

    def close(self) -> None:
        """The call is over: nothing more reaches its caller."""
        self._over = True

    def answered(self, answer: Answer, model: str) -> tuple[Answer, Emission]:
        """Time, sign and record an answer. Raises AttemptFailed when its text is not Unicode, or too long."""
        answer = self._as_it_went(answer)
        all_of_it = tally(answer)
        if all_of_it.size > self._limit:
            raise _too_long(all_of_it.size, self._limit)
        model = fit_model(answer.model or model)
        signed = msgspec.structs.replace(
            answer,
            model=model,
            first_token_ms=self._first_token_ms,
            latency_ms=self._elapsed_ms(),
            signature=sign_answer(
                self._identity,
                request=self._call.request,
                expert=self._call.expert,
                model=model,
                digest=all_of_it.digest,
            ),
        )
        return signed, self._record("answered", answer=signed, size=all_of_it.size, text_digest=all_of_it.digest)

    def _as_it_went(self, answer: Answer) -> Answer:
        """Of an answer that went by in pieces nothing more is held than what is known of them."""
        if self._passed is None or not self._passed.size:
            return answer
        passed = self._passed.passed
        if answer.text and tally(answer) != passed:
            raise AttemptFailed("failed", "the expert answers something else than it streams, and it was not held")
        return msgspec.structs.replace(answer, text="", passed=passed)

    def failed(self, failure: AttemptFailed) -> Emission:
        """Record why there is no answer."""
        outcome = failure.kind if failure.kind in _OUTCOMES else "failed"
        return self._record(outcome, error=f"{failure.kind}: {failure.message}"[:_MAX_ERROR])

    def cancelled(self) -> None:
        """Record that the caller took it back; a journal that has failed must not stop the cancellation."""
        try:
            self._record("cancelled", error="cancelled: the caller took it back")
        except JournalError as error:
            log.exception("a cancelled call is not in the journal", request=self._call.request, error=str(error))

    def _record(
        self, outcome: str, *, error: str = "", answer: Answer | None = None, size: int = 0, text_digest: str = ""
    ) -> Emission:
        latency_ms = self._elapsed_ms() if answer is None else answer.latency_ms
        keeping = self._keeping()
        kept = {} if self._is_own else served_texts(keeping, self._call, answer.text if answer else "")
        if error and keeping.policy != "full" and repeats(error, self._call.content, self._call.chat):
            error = WITHHELD
        fact = RequestServed(
            request=self._call.request,
            caller=self._caller,
            expert=self._call.expert,
            outcome=outcome,
            error=error,
            queued_ms=self._queued_ms if self._queued_ms >= 0 else latency_ms,
            latency_ms=latency_ms,
            tokens_in=answer.tokens_in if answer else -1,
            tokens_out=answer.tokens_out if answer else -1,
            answer_bytes=size,
            answer_digest=text_digest,
            **kept,
        )
        return self._journal.emit(fact, subject=self._call.request, correlation=self._call.request)

    @property
    def _is_own(self) -> bool:
        return self._caller == self._identity.peer_id

    def _keeping(self) -> Keeping:
        """What this node keeps of another's request; its own are kept where they were taken in."""
        if self._is_own:
            return Keeping(self._call.request, "digest")
        return self._content.begin(self._call.request, self._caller, self._content.policy_served(self._call.keep))

    def _elapsed_ms(self) -> float:
        return round((self._clock.monotonic() - self._arrived) * 1000, 3)


def _too_long(size: int, limit: int) -> AttemptFailed:
    return AttemptFailed("failed", f"the answer has {size} bytes or more, the limit is {limit}")
