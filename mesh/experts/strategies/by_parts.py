"""A request that was split: each part goes to the best expert of its domain, all at once, and the answers are merged.

Each section of the merged answer names its part and the expert. Parts without an answer are reported in their place;
one answer is enough to succeed.
"""

import asyncio

from mesh.events.vocabulary.requests import PartEnd
from mesh.experts.attempt import clean
from mesh.experts.attempts import Attempts
from mesh.experts.known import Target
from mesh.experts.parts import title_of
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies.best_peer import best_of
from mesh.experts.strategies.strategy import Result


async def answer_parts(attempts: Attempts) -> Result:
    """The answers of all parts as one. Raises QueryFailed when no part has one."""
    asked = [attempts.of(part) for part in attempts.parts]
    parts = [_Part(part, outcome) for part, outcome in zip(asked, await _outcomes(asked), strict=True)]
    ends = tuple(part.end() for part in parts)
    results = [part.result for part in parts if part.result is not None]
    attempts.failures += [f"part {end.part}: {end.error}" for end in ends if end.error]
    if not results:
        raise _nothing([part.failure for part in parts if part.failure is not None], ends)
    return Result(
        text="\n\n".join(part.section() for part in parts),
        winners=tuple(dict.fromkeys(winner for result in results for winner in result.winners)),
        model=results[0].model,
        fallback="; ".join(part.fallback() for part in parts if part.fallback()),
        tokens_in=_sum([result.tokens_in for result in results]),
        tokens_out=_sum([result.tokens_out for result in results]),
        parts=ends,
    )


async def _outcomes(asked: list[Attempts]) -> list[Result | QueryFailed]:
    """What came of each part. Each is dispatched before the next is routed, which so sees who has work already."""
    tasks: list[asyncio.Task[Result]] = []
    try:
        for part in asked:
            task = asyncio.create_task(best_of(part), name=f"part {part.plan.part}")
            tasks.append(task)
            task.add_done_callback(lambda _, part=part: part.begun.set())  # type: ignore[misc]
            await part.begun.wait()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found: list[Result | QueryFailed] = []
    for outcome in outcomes:
        if not isinstance(outcome, Result | QueryFailed):
            raise outcome
        found.append(outcome)
    return found


class _Part:
    """A part, and what came of it."""

    def __init__(self, attempts: Attempts, outcome: Result | QueryFailed) -> None:
        self._attempts = attempts
        self._plan = attempts.plan
        self.result = outcome if isinstance(outcome, Result) else None
        self.failure = outcome if isinstance(outcome, QueryFailed) else None

    def end(self) -> PartEnd:
        """What the journal has of it."""
        number, domain = self._plan.part, self._plan.domain
        if self.failure is not None:
            message = self._attempts.fit(clean(self.failure.message))
            return PartEnd(part=number, domain=domain, error=self.failure.kind, message=message)
        winner = self._winner()
        return PartEnd(part=number, domain=domain, peer=winner.peer, expert=winner.expert)

    def section(self) -> str:
        """What the caller has of it."""
        if self.failure is not None:
            by, said = "no answer", f"{self.failure.kind}: {self.failure.message}"
        else:
            assert self.result is not None
            by, said = f"{self._winner().expert} at {self._winner().peer[-8:]}", self.result.text.strip()
        return f"## {self._plan.part}. {title_of(self._plan.content)} ({self._plan.domain}, {by})\n\n{said}"

    def fallback(self) -> str:
        """In what way it was not answered as it was to be."""
        return f"part {self._plan.part}: {self.result.fallback}" if self.result and self.result.fallback else ""

    def _winner(self) -> Target:
        assert self.result is not None
        return self.result.winners[0]


def _nothing(failures: list[QueryFailed], ends: tuple[PartEnd, ...]) -> QueryFailed:
    """That of the first part, which says what all parts met with."""
    reasons = "; ".join(f"{end.part} ({end.domain}): {end.error}, {end.message}" for end in ends)
    message = f"none of the {len(ends)} parts has an answer: {reasons}"
    return QueryFailed(failures[0].kind, message, retry_after_s=failures[0].retry_after_s, parts=ends)


def _sum(tokens: list[int]) -> int:
    return sum(tokens) if all(count >= 0 for count in tokens) else -1
