"""The attempts of one request: each routed from the journal and recorded, in the order that its strategy wants."""

import asyncio

import msgspec

from mesh.events.envelope import Fact
from mesh.events.journal import Emission
from mesh.events.vocabulary.experts import SignedAnswer
from mesh.events.vocabulary.requests import RequestAttemptFailed, RequestFellBack
from mesh.experts.attempt import MIN_ATTEMPT_S, Answered, Attempt, Services, clean
from mesh.experts.budget import IDLE
from mesh.experts.calls import AttemptFailed
from mesh.experts.candidates import RoutingInputs
from mesh.experts.content import WITHHELD, repeats
from mesh.experts.delivery import Delivery
from mesh.experts.embedder import EmbedderUnavailable, Vector
from mesh.experts.equivocation import Statements
from mesh.experts.guessing import is_offered
from mesh.experts.hedging import usual_p95_ms
from mesh.experts.known import Target
from mesh.experts.plan import Plan
from mesh.experts.policies import policy_named
from mesh.experts.queries import QueryFailed
from mesh.experts.routing import RoutingDecision, decide, routed_fact

# Seeds are recorded in JSON, whose readers are sure of 53 bits.
_SEED_MASK = (1 << 53) - 1


class Attempts:
    """Routes and makes the attempts of one request, in whatever order its strategy wants them.

    ``parts`` are the plans of its parts, where it was split; `of` makes the attempts of one of them. ``number`` is that
    of the last that was dispatched (0: none was), ``begun`` is set from the first on. ``guessed`` are the domains that
    were tried, where the first came to nothing (`go_on`).
    """

    def __init__(self, plan: Plan, services: Services, delivery: Delivery) -> None:
        self.plan = plan
        self.delivery = delivery
        self.parts: tuple[Plan, ...] = ()
        self.failures: list[str] = []
        self._numbers: list[int] = []
        self.number = 0
        self.begun = asyncio.Event()
        self.guessed: tuple[str, ...] = ()
        self._asked: tuple[Target, ...] = ()
        self._done_with: tuple[Target, ...] = ()
        self._tries = 0
        self._last_failure = ""
        self._purposes: dict[Target, str] = {}
        self.journal_keeps_text = False
        self.equivocated: set[Target] = set()
        self._statements = Statements(plan.known_as, services.verify)
        self._services = services
        self._started = services.clock.monotonic()

    def of(self, part: Plan, delivery: Delivery) -> "Attempts":
        """The attempts of a part: numbered, timed and reported with all others."""
        attempts = Attempts(part, self._services, delivery)
        attempts.failures, attempts._numbers = self.failures, self._numbers
        attempts.journal_keeps_text, attempts._started = self.journal_keeps_text, self._started
        return attempts

    @property
    def count(self) -> int:
        """How many were dispatched, for any part."""
        return len(self._numbers)

    def next_number(self) -> int:
        """The number of an attempt that is about to be dispatched."""
        self.number = self.count + 1
        self._numbers.append(self.number)
        self.begun.set()
        return self.number

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

    def fit(self, message: str) -> str:
        """The message of an error as the journal may have it: an expert's may repeat what was asked."""
        plan = self.plan
        withheld = not self.journal_keeps_text and repeats(message, plan.content, plan.chat)
        return WITHHELD if withheld else message

    def record(self, fact: Fact) -> Emission:
        """Emit a fact of this request."""
        request = self.plan.request
        if isinstance(fact, RequestAttemptFailed):
            fact = msgspec.structs.replace(fact, message=self.fit(fact.message))
        return self._services.journal.emit(fact, subject=request, correlation=request)

    def route(
        self,
        k: int = 1,
        *,
        scope: str = "any",
        spread: bool = False,
        excluded: tuple[Target, ...] = (),
        purpose: str = "",
    ) -> RoutingDecision:
        """Decide whom to ask next, and record the decision with all that it saw.

        ``purpose`` (`mesh.experts.budget`) follows from what came before, where it is not given.
        """
        services, plan = self._services, self.plan
        purpose = purpose or self._next_purpose()
        if not spread:  # with it everybody else of their peers would be out as well
            excluded = tuple(dict.fromkeys(self._done_with + excluded))
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
            needs=plan.needs,
            purpose=purpose,
            conversation=plan.conversation,
            rules=plan.rules,
        )
        decision = decide(services.state, inputs)
        self._tries += bool(decision.chosen) and purpose != "hedge"
        self.record(routed_fact(inputs, decision, services.journal.position, plan.part))
        probes = {one.target for one in decision.candidates if one.features.probe} if purpose == "first" else set()
        self._purposes.update({target: "probe" if target in probes else purpose for target in decision.chosen})
        return decision

    def purpose_of(self, target: Target) -> str:
        """What the last decision chose it for."""
        return self._purposes.get(target, "first")

    def usual_p95_ms(self, decision: RoutingDecision) -> float:
        """How long the first of a decision may take until another one is asked beside it; -1: as long as it likes."""
        others = len(decision.candidates) > 1 and self.plan.hedge and not self.plan.peer
        return usual_p95_ms(self._services.state, decision.candidates) if others else -1.0

    def _next_purpose(self) -> str:
        if not self.number:
            return "first"
        return "moved" if self._last_failure in IDLE else "retry"

    async def ask(self, target: Target, delivery: Delivery | None = None, *, signed: bool = False) -> Answered:
        """Ask one expert and record what came of it; with ``signed`` an answer must prove who gave it.

        Raises AttemptFailed; a broken stream, of which the caller already has a part, is never retryable.
        """
        self._asked += (target,)
        delivery = delivery or Delivery(None)
        attempt = Attempt(self, self._services, target, delivery)
        try:
            answered = await attempt.run(signed=signed)
        except AttemptFailed as failure:
            delivery.unsay(target)
            self.failures.append(f"{target}: {failure.kind}")
            self._last_failure = failure.kind
            raise
        self._hold_to_its_word(answered)
        return answered

    def fell_back(self, to: str, reason: str, domain: str = "") -> None:
        """Record that something less than the strategy, or another ``domain``, is tried."""
        plan = self.plan
        self.record(
            RequestFellBack(
                request=plan.request,
                strategy=plan.strategy,
                to=to,
                reason=self.fit(clean(reason)),
                part=plan.part,
                domain=domain,
            )
        )

    @property
    def instead(self) -> Plan | None:
        """What can be done yet where the domain was a wrong guess: the default domain's plan, with the tries left.

        Nothing for what was split: each of its parts has gone on by itself.
        """
        plan = self.plan.instead
        if plan is None or self.parts or self.plan.fallback == "off" or not self._may_ask_on:
            return None
        left = plan.attempts - self._tries
        offered = is_offered(self._services.state, plan, self.local)
        return msgspec.structs.replace(plan, attempts=left) if offered and left > 0 else None

    def go_on(self, plan: Plan, reason: str) -> None:
        """Take the plan for another domain, and record it. Whoever was asked is not asked again."""
        self.fell_back("default_domain", reason, plan.domain)
        self.guessed = (self.plan.domain, plan.domain)
        self.plan, self._done_with = plan, self._asked

    def _hold_to_its_word(self, answered: Answered) -> None:
        """Who signs two different answers to one request is recorded with the proof, whatever the strategy."""
        answer = answered.answer
        signed = SignedAnswer(model=answer.model, answer_digest=answered.digest, signature=answer.signature)
        proof = self._statements.add(answered.target, signed)
        if proof is not None:
            self.equivocated.add(answered.target)
            self.record(proof)

    async def embed(self, text: str) -> Vector:
        """What a text means. Raises EmbedderUnavailable."""
        if self._services.embedder is None:
            raise EmbedderUnavailable("this node has no embedding")
        (vector,) = await self._services.embedder.embed([text])
        return vector

    def may_retry(self, failure: AttemptFailed) -> bool:
        """Whether to ask somebody else: the failure allows it, there is time, and the caller has nothing yet.

        A peer that says ``expired`` long before the deadline has a limit of its own; another may have not.
        """
        return self._may_ask_on and (failure.retryable or failure.kind == "expired")

    @property
    def _may_ask_on(self) -> bool:
        return self.delivery.gone is None and not self.delivery.begun and self.remaining_s > MIN_ATTEMPT_S

    def failed(self, failure: AttemptFailed) -> QueryFailed:
        """What the caller is told when this failure decided the request."""
        if self.delivery.begun and failure.kind != "cancelled":
            message = f"the answer broke off after {self.delivery.length} characters: {failure.message}"
            return QueryFailed("broken_stream", message, partial=self.delivery.text)
        return QueryFailed(failure.kind, failure.message, retry_after_s=failure.retry_after_s)
