"""What a strategy is: how the experts that routing picks are put to work for one request."""

from typing import Protocol

import msgspec

from mesh.events.vocabulary.requests import Count, PartEnd, Vote
from mesh.experts.attempt import Answered
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AnswerFormat, Passed
from mesh.experts.candidates import Exclusion
from mesh.experts.known import Target
from mesh.experts.queries import QueryFailed
from mesh.experts.routing import RoutingDecision


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a strategy. ``winners`` are those whose answers are in it, the first one first.

    ``cached_from`` is the request that it was found for, where that is another. ``passed`` is as in
    `mesh.experts.calls.Answer`.
    """

    text: str
    winners: tuple[Target, ...]
    model: str
    agreement: float = 1.0
    votes: tuple[Vote, ...] = ()
    fallback: str = ""
    tokens_in: int = -1
    tokens_out: int = -1
    format: AnswerFormat = "text"
    finish_reason: str = ""
    cached_from: str = ""
    count: Count | None = None
    passed: Passed | None = None
    parts: tuple[PartEnd, ...] = ()


class Strategy(Protocol):
    """One way to get an answer. Stateless: everything about the request is in ``attempts``."""

    name: str

    async def run(self, attempts: Attempts) -> Result:
        """Answer the request, or raise QueryFailed."""
        ...


def result_of(answered: Answered, fallback: str = "") -> Result:
    """The result that is one expert's answer."""
    answer = answered.answer
    return Result(
        text=answer.text,
        winners=(answered.target,),
        model=answer.model,
        fallback=fallback,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
        format=answer.format,
        finish_reason=answer.finish_reason,
        passed=answer.passed,
    )


def nobody(attempts: Attempts, decision: RoutingDecision) -> QueryFailed:
    """The failure of a request that nobody can be asked, naming who was excluded and why."""
    plan = attempts.plan
    wanted = f"the expert {plan.expert!r}" if plan.expert else f"the domain {plan.domain!r}"
    if plan.strategy == "local_only":
        wanted += " on this node"
    reasons = [f"{one.expert} at {one.peer[-8:]}: {_why_not(one)}" for one in decision.excluded[:5]]
    why = "; ".join(reasons) if reasons else f"nobody offers it ({decision.other_domains} experts serve something else)"
    message = f"no expert is left to ask for {wanted}: {why}"
    excluded_for = {one.reason for one in decision.excluded}
    if excluded_for == {"overloaded"}:
        return QueryFailed("overloaded", message)
    if plan.expert and excluded_for == {"lacks_feature"}:  # today and tomorrow
        return QueryFailed("lacks_feature", message)
    return QueryFailed("no_candidates", message)


def _why_not(excluded: Exclusion) -> str:
    return f"{excluded.reason} ({excluded.detail})" if excluded.reason == "lacks_feature" else excluded.reason
