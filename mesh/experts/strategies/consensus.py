"""``consensus``: several peers at once, and the answer that enough of them sign.

Stops as soon as the outcome cannot change, and takes back what is still being worked on. A peer that fails
(rather than dissents) is replaced while others are left. Without a quorum there is no answer.
"""

import asyncio

from mesh.experts.attempt import Answered
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AttemptFailed
from mesh.experts.consensus import Ballot, Tally, group_of, tally, votes_of
from mesh.experts.known import Target
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies.strategy import Result, nobody


class Consensus:
    """One vote a peer, ``fan_out`` peers, ``quorum`` equal answers."""

    name = "consensus"

    async def run(self, attempts: Attempts) -> Result:
        """See `Strategy.run`."""
        decision = attempts.route(attempts.plan.fan_out, spread=True)
        if not decision.chosen:
            raise nobody(attempts, decision)
        if len(decision.chosen) < attempts.plan.quorum:
            raise QueryFailed(
                "no_quorum",
                f"{attempts.plan.quorum} equal answers are needed, and no more than {len(decision.chosen)} can be had",
            )
        election = _Election(attempts)
        try:
            await election.hold(decision.chosen)
        finally:
            await election.end()
        return election.result(len(decision.chosen))


class _Election:
    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._running: dict[asyncio.Task[Answered], int] = {}
        self._asked: tuple[Target, ...] = ()
        self._ballots: list[Ballot] = []
        self._answers: dict[int, Answered] = {}
        self._replacements = attempts.plan.attempts - 1
        self._over: AttemptFailed | None = None

    async def hold(self, targets: tuple[Target, ...]) -> None:
        """Ask, and count until the outcome is certain."""
        for target in targets:
            self._ask(target)
        while self._running and not self._certain():
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda task: self._running[task]):
                self._count(task)

    async def end(self) -> None:
        """Take back what is still being worked on, and wait until it has let go."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def result(self, first_asked: int) -> Result:
        """The answer of the leading group, in the words of its best ranked member."""
        count = self._tally()
        votes = votes_of(self._ballots, count.leader)
        if not count.decided:
            raise self._no_quorum(count)
        ranks = sorted(ballot.rank for ballot in self._ballots if ballot.group == count.leader)
        best = self._answers[ranks[0]]
        replaced = len(self._asked) - first_asked
        return Result(
            text=best.answer.text,
            winners=tuple(self._asked[rank] for rank in ranks),
            model=best.answer.model,
            agreement=round(count.support / count.cast, 4),
            votes=votes,
            fallback=f"consensus: {replaced} that failed replaced by others" if replaced else "",
        )

    def _no_quorum(self, count: Tally) -> QueryFailed:
        if not self._ballots and self._over is not None:
            return self._attempts.failed(self._over)
        message = (
            f"{count.support} of {count.cast} answers agree, and {count.quorum} are needed; "
            f"{len(self._attempts.failures)} gave none"
        )
        return QueryFailed("no_quorum", message, votes=votes_of(self._ballots, ""))

    def _tally(self) -> Tally:
        return tally(self._ballots, quorum=self._attempts.plan.quorum, outstanding=len(self._running))

    def _certain(self) -> bool:
        count = self._tally()
        return count.decided or count.hopeless

    def _ask(self, target: Target) -> None:
        rank = len(self._asked)
        self._asked += (target,)
        self._running[asyncio.create_task(self._attempts.ask(target, signed=True), name=f"ask {target}")] = rank

    def _count(self, task: asyncio.Task[Answered]) -> None:
        rank = self._running.pop(task)
        try:
            answered = task.result()
        except AttemptFailed as failure:
            self._over = failure
            self._replace(failure)
            return
        self._answers[rank] = answered
        ballot = Ballot(
            rank=rank,
            target=answered.target,
            text=answered.answer.text,
            digest=answered.digest,
            group=group_of(answered.answer.text),
        )
        self._ballots.append(ballot)

    def _replace(self, failure: AttemptFailed) -> None:
        if self._replacements == 0 or not self._attempts.may_retry(failure):
            return
        self._replacements -= 1
        for target in self._attempts.route(spread=True, excluded=self._asked).chosen:
            self._ask(target)
