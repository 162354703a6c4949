"""``consensus``: several peers at once, and the answer that enough of them sign.

Stops as soon as the outcome cannot change, and takes back what is still being worked on. A peer that fails
(rather than dissents) is replaced while others are left. Without a quorum there is no answer.
"""

import asyncio

from mesh.experts.attempt import Answered
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AttemptFailed
from mesh.experts.consensus import votes_of
from mesh.experts.election import Election, dissents
from mesh.experts.embedder import EmbedderUnavailable, Vector
from mesh.experts.known import Target
from mesh.experts.queries import QueryFailed
from mesh.experts.routing import RoutingDecision
from mesh.experts.strategies.strategy import Result, nobody


class Consensus:
    """One vote a peer, ``fan_out`` peers, ``quorum`` equal answers."""

    name = "consensus"

    async def run(self, attempts: Attempts) -> Result:
        """See `Strategy.run`."""
        voting = attempts.plan.voting
        decision = attempts.route(voting.fan_out, spread=True)
        if not decision.chosen:
            raise nobody(attempts, decision)
        if len(decision.chosen) < voting.quorum:
            raise QueryFailed(
                "no_quorum",
                f"{voting.quorum} equal answers are needed, and no more than {len(decision.chosen)} can be had",
            )
        polling = _Polling(attempts)
        try:
            await polling.hold(decision)
        finally:
            await polling.end()
        return polling.result(len(decision.chosen))


class _SaysTwoThings(Exception):
    """The expert gave two different answers to this request."""


class _Polling:
    """Asks, and lets `Election` count."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._voting = attempts.plan.voting
        self._election = Election(self._voting, attempts.plan.domain)
        self._running: dict[asyncio.Task[tuple[Answered, Vector]], int] = {}
        self._answers: dict[int, Answered] = {}
        self._replacements = attempts.plan.attempts - 1
        self._over: AttemptFailed | None = None

    async def hold(self, decision: RoutingDecision) -> None:
        """Ask, and count until the outcome is certain."""
        self._ask(decision)
        while self._running and not self._election.is_certain():
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda task: self._running[task]):
                self._count(task)

    async def end(self) -> None:
        """Take back what is still being worked on, and wait until it has let go."""
        self._election.close(self._running.values())
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def result(self, first_asked: int) -> Result:
        """The answer of the leading group, in the words of the member that speaks for it."""
        election = self._election
        votes = votes_of(election.ballots, election.tally.leader)
        if not election.tally.decided:
            raise self._no_quorum()
        self._record_dissent()
        winners = election.winners()
        best = self._answers[winners[0]]
        return Result(
            text=best.answer.text,
            winners=tuple(election.asked[rank] for rank in winners),
            model=best.answer.model,
            agreement=round(election.tally.support / election.tally.cast, 4),
            votes=votes,
            fallback=self._fallback(first_asked),
            count=election.count(),
        )

    def _record_dissent(self) -> None:
        answers = {rank: (answer.answer.model, answer.answer.signature) for rank, answer in self._answers.items()}
        for fact in dissents(self._attempts.plan.request, self._election, answers):
            self._attempts.record(fact)

    def _fallback(self, first_asked: int) -> str:
        replaced = len(self._election.asked) - first_asked
        parts = [f"{replaced} that failed replaced by others"] if replaced else []
        if self._voting.faults and first_asked < self._voting.fan_out:
            parts.append(f"asked {first_asked} of {self._voting.fan_out}: no more serve it")
        return f"consensus: {'; '.join(parts)}" if parts else ""

    def _no_quorum(self) -> QueryFailed:
        election = self._election
        if not election.ballots and self._over is not None:
            return self._attempts.failed(self._over)
        count = election.tally
        message = (
            f"{count.support} of {count.cast} answers agree, and {count.quorum} are needed; "
            f"{len(self._attempts.failures)} gave none"
        )
        if count.support >= count.quorum:
            message += f"; those {count.support} weigh {count.weight:g}, against {count.against:g}"
        if election.equivocated:
            message += f"; {len(election.equivocated)} signed two different answers"
        return QueryFailed("no_quorum", message, votes=votes_of(election.ballots, ""), count=election.count())

    def _ask(self, decision: RoutingDecision) -> None:
        weights = {one.target: one.features.reliability for one in decision.candidates}
        for target in decision.chosen:
            rank = self._election.ask(target, weights[target])
            task = asyncio.create_task(self._vote(target), name=f"ask {target}")
            self._running[task] = rank

    async def _vote(self, target: Target) -> tuple[Answered, Vector]:
        answered = await self._attempts.ask(target, signed=True)
        for _ in range(self._voting.repeat - 1):
            again = await self._attempts.ask(target, signed=True)
            if again.digest != answered.digest:
                raise _SaysTwoThings
        return answered, await self._meaning(answered.answer.text)

    async def _meaning(self, text: str) -> Vector:
        if not self._election.by_meaning:
            return ()
        try:
            return await self._attempts.embed(text)
        except EmbedderUnavailable as error:
            self._election.note = f"not by meaning: {error}"[:200]
            return ()

    def _count(self, task: asyncio.Task[tuple[Answered, Vector]]) -> None:
        rank = self._running.pop(task)
        try:
            answered, vector = task.result()
        except AttemptFailed as failure:
            self._over = failure
            self._election.failed(rank)
            self._replace(failure)
        except _SaysTwoThings:
            self._election.said_two_things(rank)
        else:
            self._answers[rank] = answered
            self._election.cast(rank, answered.answer.text, answered.digest, vector)

    def _replace(self, failure: AttemptFailed) -> None:
        if self._replacements == 0 or not self._attempts.may_retry(failure):
            return
        self._replacements -= 1
        self._ask(self._attempts.route(spread=True, excluded=self._election.asked))
