"""A second expert beside one that is late: who counts, who is taken back, what is recorded. In virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh.config import RoutingConfig
from mesh.events.vocabulary.requests import RequestAttemptFailed, RequestDispatched, RequestHedged, RequestRouted
from mesh.experts.calls import AttemptFailed, Call, Emit
from mesh.experts.queries import Outcome, QueryFailed
from tests.kit.asking import Asker, Serving, fails, hangs, says, streams
from tests.sim.test_routing_sim import check_every_decision

pytestmark = pytest.mark.looptime
USUAL_S = 0.1
Work = Callable[[Call, Emit], Awaitable[str]]


class Two:
    """Two experts whose usual pace is known; the first one asked next is ``late``, which does as it is told."""

    def __init__(self, **config: object) -> None:
        self.node = Asker(config=RoutingConfig(policy="round_robin", **config))
        self.serving: list[Serving] = []

    async def open(self) -> "Two":
        await self.node.open()
        for number in (2, 3):
            self.serving.append(self.node.offer(self.node.connect(number), "a", says("usual", USUAL_S)))
        await asyncio.sleep(60)
        for _ in range(40):
            await self.ask()
        return self

    async def ask(self, emit: Emit | None = None, **choices: object) -> Outcome:
        return await self.node.requests.ask({"content": "x", "domain": "language", **choices}, emit)

    def next_two(self, late: Work, other: Work) -> tuple[Serving, Serving]:
        """Round robin asks the one that was asked longest ago."""
        first, second = sorted(
            self.serving, key=lambda one: self.node.state.tracks[one.identity.peer_id]["a"].last_dispatched
        )
        first.work, second.work = late, other
        return first, second


async def test_the_first_answer_counts_and_the_late_one_is_taken_back() -> None:
    two = await Two().open()
    late, other = two.next_two(hangs(), says("quick", 0.05))
    outcome = await two.ask()
    assert (outcome.text, outcome.peers) == ("quick", (other.identity.peer_id,))
    assert outcome.latency_ms == pytest.approx(151, abs=2)
    assert late.cancelled == 1
    assert await two.node.story(outcome.request) == [
        "received",
        "routed",
        "dispatched",
        "routed",
        "hedged",
        "dispatched",
        "answered",
        "attempt_failed",
        "completed",
    ]
    facts = await two.node.facts(outcome.request)
    (hedged,) = [fact for fact in facts if isinstance(fact, RequestHedged)]
    assert (hedged.attempt, hedged.peer, hedged.by_peer) == (1, late.identity.peer_id, other.identity.peer_id)
    assert hedged.p95_ms == pytest.approx(100, abs=1)
    assert [fact.purpose for fact in facts if isinstance(fact, RequestDispatched)] == ["first", "hedge"]
    (failed,) = [fact for fact in facts if isinstance(fact, RequestAttemptFailed)]
    assert (failed.attempt, failed.kind) == (1, "cancelled")
    assert two.node.state.attempts_in_flight() == 0
    check_every_decision(two.node, await two.node.events())


async def test_parts_of_a_request_are_hedged_each_by_itself() -> None:
    two = await Two().open()
    slow, quick = two.next_two(says("late", 0.5), says("quick", 0.3))
    outcome = await two.ask(parts=["x", "y"])
    assert [end.error for end in outcome.parts] == ["", ""]
    events = await two.node.events()
    hedged = [event.fact for event in events if isinstance(event.fact, RequestHedged)]
    assert [(fact.attempt, fact.peer) for fact in hedged] == [
        (1, slow.identity.peer_id),
        (2, quick.identity.peer_id),
    ]
    lates = {peer: two.node.state.tracks[peer]["a"].lates for peer in (fact.peer for fact in hedged)}
    assert list(lates.values()) == [1, 2]
    assert two.node.state.attempts_in_flight() == 0
    check_every_decision(two.node, events)


async def test_the_late_one_may_still_win() -> None:
    two = await Two().open()
    late, other = two.next_two(says("late", 0.12), says("slower", 1.0))
    outcome = await two.ask()
    assert outcome.peers == (late.identity.peer_id,)
    assert other.cancelled == 1


async def test_nobody_else_is_asked_in_time_or_where_it_is_switched_off() -> None:
    two = await Two().open()
    two.next_two(says("in time", 0.09), fails("failed"))
    assert (await two.ask()).attempts == 1
    off = await Two(hedge=False).open()
    off.next_two(says("patience", 5.0), fails("failed"))
    assert (await off.ask()).attempts == 1


async def test_a_hedge_that_fails_leaves_the_late_one_alone() -> None:
    two = await Two().open()
    late, _ = two.next_two(says("late", 0.5), fails("failed"))
    outcome = await two.ask()
    assert (outcome.text, outcome.peers, late.cancelled) == ("late", (late.identity.peer_id,), 0)


async def test_where_both_fail_the_request_fails_and_names_both() -> None:
    two = await Two(attempts=1).open()
    two.next_two(fails("failed", after_s=0.3), fails("failed", after_s=0.1))
    with pytest.raises(QueryFailed) as failure:
        await two.ask()
    assert len(failure.value.failures) == 2


async def test_what_cannot_be_helped_ends_both() -> None:
    two = await Two().open()
    late, _ = two.next_two(hangs(), fails("invalid", after_s=0.01))
    with pytest.raises(QueryFailed) as failure:
        await two.ask()
    assert (failure.value.kind, late.cancelled) == ("invalid", 1)


async def test_a_caller_that_goes_takes_both_back() -> None:
    two = await Two().open()
    late, other = two.next_two(hangs(), hangs())
    asking = asyncio.create_task(two.ask())
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (late.cancelled, other.cancelled, two.node.state.attempts_in_flight()) == (1, 1, 0)


async def heard(two: Two) -> tuple[list[str], Outcome]:
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    outcome = await two.ask(emit)
    return pieces, outcome


async def test_the_first_piece_decides_and_pieces_of_two_never_mix() -> None:
    two = await Two().open()
    late, other = two.next_two(
        streams("late ", "answer", every_s=0.14), streams("quick ", "but ", "long", every_s=0.02)
    )
    pieces, outcome = await heard(two)
    assert ("".join(pieces), outcome.text) == ("quick but long", "quick but long")
    assert (late.cancelled, other.cancelled) == (1, 0)


async def test_one_that_streams_already_is_not_late() -> None:
    two = await Two().open()
    two.next_two(streams(*"abcdefgh", every_s=0.05), fails("failed"))
    pieces, outcome = await heard(two)
    assert ("".join(pieces), outcome.attempts) == ("abcdefgh", 1)


async def test_a_stream_that_won_and_broke_is_not_replaced() -> None:
    async def breaks(call: Call, emit: Emit) -> str:
        await emit("part")
        await asyncio.sleep(0.01)
        raise AttemptFailed("failed", "midway")

    two = await Two().open()
    two.next_two(hangs(), breaks)
    with pytest.raises(QueryFailed) as failure:
        await heard(two)
    assert (failure.value.kind, failure.value.partial) == ("broken_stream", "part")


async def test_hedges_over_the_budget_are_not_made() -> None:
    two = await Two(retry_budget=0.0, retry_reserve=1.0).open()
    attempts = []
    for _ in range(3):
        two.next_two(says("late", 0.5), says("quick", 0.05))
        attempts.append((await two.ask()).attempts)
    assert attempts == [2, 1, 1]
    withheld = [
        fact
        for fact in await two.node.facts()
        if isinstance(fact, RequestRouted) and b"over the budget" in bytes(fact.decision)
    ]
    assert len(withheld) == 2
