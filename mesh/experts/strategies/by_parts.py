"""A request that was split: each part goes to the best expert of its domain, all at once, and the answers are merged.

Each section of the merged answer names its part and the expert. Parts without an answer are reported in their place;
one answer is enough to succeed. Streamed, the sections go by one after the other (`mesh.experts.strategies.section`).
"""

import asyncio

from mesh.events.vocabulary.requests import PartEnd
from mesh.experts.attempt import clean
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AttemptFailed
from mesh.experts.plan import Plan
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies.best_peer import best_of
from mesh.experts.strategies.guess import past_the_guess
from mesh.experts.strategies.section import Section
from mesh.experts.strategies.strategy import Result

_BETWEEN = "\n\n"


async def answer_parts(attempts: Attempts) -> Result:
    """The answers of all parts as one. Raises QueryFailed when no part has one."""
    parts = [_Part(attempts, plan) for plan in attempts.parts]
    try:
        text = await _text(attempts, parts)
    finally:
        await asyncio.gather(*(part.stop() for part in parts))
    ends = tuple(part.end() for part in parts)
    results = [part.outcome for part in parts if isinstance(part.outcome, Result)]
    attempts.failures += [f"part {end.part}: {end.error}" for end in ends if end.error]
    if not results:
        raise _nothing(attempts, [part.outcome for part in parts if isinstance(part.outcome, QueryFailed)], ends)
    return Result(
        text=text,
        winners=tuple(dict.fromkeys(winner for result in results for winner in result.winners)),
        model=results[0].model,
        fallback="; ".join(part.fallback() for part in parts if part.fallback()),
        tokens_in=_sum([result.tokens_in for result in results]),
        tokens_out=_sum([result.tokens_out for result in results]),
        parts=ends,
    )


async def _text(attempts: Attempts, parts: list["_Part"]) -> str:
    """What was said to all parts. Each is dispatched before the next is routed, which so sees who has work already."""
    await parts[0].section.turn(before="")
    for part in parts:
        await part.begin()
    whole, text, between = attempts.delivery, "", ""
    for part in parts:
        try:
            await part.section.turn(before=text + between)
            outcome = await part.ended()
            text, between = text + between + part.section.ended(outcome), _BETWEEN
            if isinstance(outcome, Result) and part is not parts[-1]:  # the end goes out once all is stored
                await whole.piece(whole.rest_of(text), outcome.winners[0])
        except AttemptFailed as failure:
            raise attempts.failed(failure) from failure
        if whole.gone is not None and isinstance(outcome, QueryFailed):
            raise outcome
    return text


class _Part:
    """A part, and what came of it."""

    def __init__(self, whole: Attempts, plan: Plan) -> None:
        self._plan = plan
        self.section = Section(whole.delivery, plan, lambda: self._attempts.plan.domain)
        self._attempts = whole.of(plan, self.section)
        self.outcome: Result | QueryFailed | None = None
        self._task: asyncio.Task[Result] | None = None

    async def begin(self) -> None:
        """Return once somebody was asked, or nobody can be."""
        self._task = asyncio.create_task(past_the_guess(self._attempts, best_of), name=f"part {self._plan.part}")
        self._task.add_done_callback(lambda _: self._attempts.begun.set())
        await self._attempts.begun.wait()

    async def ended(self) -> Result | QueryFailed:
        """Its end."""
        assert self._task is not None
        try:
            self.outcome = await self._task
        except QueryFailed as failure:
            self.outcome = failure
        return self.outcome

    async def stop(self) -> None:
        """Take back what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def end(self) -> PartEnd:
        """What the journal has of it."""
        number, domain = self._plan.part, self._attempts.plan.domain
        if isinstance(self.outcome, QueryFailed):
            message = self._attempts.fit(clean(self.outcome.message))
            return PartEnd(part=number, domain=domain, error=self.outcome.kind, message=message)
        assert self.outcome is not None
        winner = self.outcome.winners[0]
        return PartEnd(part=number, domain=domain, peer=winner.peer, expert=winner.expert)

    def fallback(self) -> str:
        """In what way it was not answered as it was to be."""
        fallback = self.outcome.fallback if isinstance(self.outcome, Result) else ""
        return f"part {self._plan.part}: {fallback}" if fallback else ""


def _nothing(attempts: Attempts, failures: list[QueryFailed], ends: tuple[PartEnd, ...]) -> QueryFailed:
    """That of the first part, which says what all parts met with; or that it broke off, where one had begun."""
    reasons = "; ".join(f"{end.part} ({end.domain}): {end.error}, {end.message}" for end in ends)
    message = f"none of the {len(ends)} parts has an answer: {reasons}"
    if attempts.delivery.begun:
        return QueryFailed("broken_stream", message, partial=attempts.delivery.text, parts=ends)
    return QueryFailed(failures[0].kind, message, retry_after_s=failures[0].retry_after_s, parts=ends)


def _sum(tokens: list[int]) -> int:
    return sum(tokens) if all(count >= 0 for count in tokens) else -1
