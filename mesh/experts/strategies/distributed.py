"""``distributed``: several experts at once, and everything that they say.

Merging is laying side by side: each different answer is a section under the names of those who gave it, in the
order of the routing decision; equal answers (`mesh.experts.consensus.group_of`) are one section. Nothing is
chosen, blended or dropped. Who gave nothing is reported; one answer is enough to succeed. A request that was split
into parts is another matter: `mesh.experts.strategies.by_parts`.
"""

import asyncio

import msgspec

from mesh.experts.attempt import Answered
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AttemptFailed
from mesh.experts.consensus import group_of
from mesh.experts.known import Target
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies.best_peer import best_of
from mesh.experts.strategies.by_parts import answer_parts
from mesh.experts.strategies.strategy import Result, nobody


class Distributed:
    """Fans out to ``fan_out`` experts. Where all of them fail, the others are tried one by one."""

    name = "distributed"

    async def run(self, attempts: Attempts) -> Result:
        """See `Strategy.run`."""
        if attempts.parts:
            return await answer_parts(attempts)
        wanted = attempts.plan.fan_out
        decision = attempts.route(wanted)
        if not decision.chosen:
            raise nobody(attempts, decision)
        answers, failures = await ask_all(attempts, decision.chosen)
        if not answers:
            return await self._one_by_one(attempts, decision.chosen, failures)
        short = len(decision.chosen) < wanted
        return Result(
            text=merged(answers),
            winners=tuple(one.target for one in answers),
            model=answers[0].answer.model,
            fallback=f"asked {len(decision.chosen)} of {wanted}: no more serve it" if short else "",
        )

    async def _one_by_one(self, attempts: Attempts, asked: tuple[Target, ...], failures: list[AttemptFailed]) -> Result:
        for failure in failures:
            if not attempts.may_retry(failure):
                raise attempts.failed(failure)
        if attempts.plan.fallback == "off":
            raise attempts.failed(failures[0])
        attempts.fell_back("best_peer", f"all {len(asked)} parts failed")
        try:
            result = await best_of(attempts, asked)
        except QueryFailed as failure:
            raise (attempts.failed(failures[0]) if failure.kind == "no_candidates" else failure) from failure
        return msgspec.structs.replace(result, fallback=f"best_peer: all {len(asked)} parts failed")


async def ask_all(attempts: Attempts, targets: tuple[Target, ...]) -> tuple[list[Answered], list[AttemptFailed]]:
    """Ask all at once, wait for all; answers and failures in the order of ``targets``."""
    outcomes = await asyncio.gather(*(attempts.ask(target) for target in targets), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, AttemptFailed):
            raise outcome
    return (
        [outcome for outcome in outcomes if isinstance(outcome, Answered)],
        [outcome for outcome in outcomes if isinstance(outcome, AttemptFailed)],
    )


def merged(answers: list[Answered]) -> str:
    """All that was said, each different answer once, under the names of those who said it."""
    groups: dict[str, list[Answered]] = {}
    for one in answers:
        groups.setdefault(group_of(one.answer.text), []).append(one)
    if len(groups) == 1:
        return answers[0].answer.text
    sections = (f"## {_names(group)}\n\n{group[0].answer.text.strip()}" for group in groups.values())
    return "\n\n".join(sections)


def _names(group: list[Answered]) -> str:
    return ", ".join(f"{one.target.expert} at {one.target.peer[-8:]}" for one in group)
