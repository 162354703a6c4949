"""distributed and consensus, against experts that do as they are told."""

import asyncio

import pytest

from mesh.config import RoutingConfig
from mesh.events.vocabulary.requests import RequestCompleted, RequestFailed
from mesh.experts.queries import Query, QueryFailed
from mesh.experts.strategies import STRATEGIES, strategy_named
from tests.kit.asking import Asker, Work, fails, hangs, says

pytestmark = pytest.mark.looptime


async def asker(*works: Work, config: RoutingConfig | None = None) -> tuple[Asker, list[str]]:
    """A node with one peer for each of ``works``, serving the domain language."""
    node = await Asker(config=config).open()
    peers = [node.connect(number + 2) for number in range(len(works))]
    for peer, work in zip(peers, works, strict=True):
        node.offer(peer, "a", work)
    return node, peers


def consensus(fan_out: int, **more: object) -> Query:
    return Query.model_validate(
        {"content": "2+2?", "domain": "language", "strategy": "consensus", "fan_out": fan_out, **more}
    )


def distributed(fan_out: int) -> Query:
    return Query(content="hi", domain="language", strategy="distributed", fan_out=fan_out)


def test_every_strategy_of_the_configuration_exists() -> None:
    names = RoutingConfig.model_fields["strategy"].annotation.__args__
    assert sorted(names) == sorted(strategy.name for strategy in STRATEGIES)
    with pytest.raises(LookupError, match="best_peer"):
        strategy_named("luck")


async def test_distributed_lays_different_answers_side_by_side() -> None:
    node, peers = await asker(says("red"), says("blue"), says(" RED "))
    outcome = await node.requests.ask(distributed(3))
    sections = outcome.text.split("\n\n")
    assert len(sections) == 4
    assert sum(peer[-8:] in outcome.text for peer in peers) == 3
    assert {"red", "blue"} == {section.strip().casefold() for section in sections[1::2]}
    assert set(outcome.peers) == set(peers)


async def test_distributed_answers_at_once_not_one_after_another() -> None:
    node, _ = await asker(says("a", 2.0), says("b", 2.0), says("c", 2.0))
    outcome = await node.requests.ask(distributed(3))
    assert outcome.latency_ms == pytest.approx(2000, abs=50)


async def test_distributed_reports_the_parts_that_failed() -> None:
    node, peers = await asker(says("red"), fails("failed"), fails("unavailable"))
    outcome = await node.requests.ask(distributed(3))
    assert outcome.text == "red"
    assert sorted(outcome.failures) == sorted([f"{peers[1]}/a: failed", f"{peers[2]}/a: unavailable"])
    assert outcome.peers == (peers[0],)


async def test_distributed_says_when_it_asked_fewer() -> None:
    node, _ = await asker(says("red"), says("red"))
    outcome = await node.requests.ask(distributed(5))
    assert outcome.fallback == "asked 2 of 5: no more serve it"
    assert outcome.text == "red"


async def test_distributed_tries_the_others_when_all_parts_failed() -> None:
    node, _ = await asker(*[fails("failed")] * 2)
    last = node.connect(9)
    node.offer(last, "a", says("saved"), in_flight=100)
    outcome = await node.requests.ask(
        Query(content="hi", domain="language", strategy="distributed", fan_out=2, policy="weighted")
    )
    assert (outcome.text, outcome.fallback) == ("saved", "best_peer: all 2 parts failed")


async def test_distributed_without_any_answer_fails() -> None:
    node, _ = await asker(*[fails("unavailable", "no engine")] * 3)
    with pytest.raises(QueryFailed, match="no engine") as failure:
        await node.requests.ask(distributed(3))
    assert len(failure.value.failures) == 3


async def test_consensus_outvotes_a_liar_and_keeps_the_dissent() -> None:
    node, peers = await asker(says("4"), says("4.0"), says(" 4 "), says("5"))
    node.experts[peers[0], "a"].work = says("4", 1.0)  # so that everybody has answered by then
    node.experts[peers[1], "a"].work = says("4.0", 1.0)
    outcome = await node.requests.ask(consensus(4))
    assert outcome.text in ("4", "4.0", " 4 ")
    assert outcome.agreement == 0.75
    assert {vote.peer: vote.agrees for vote in outcome.votes} == {
        peers[0]: True,
        peers[1]: True,
        peers[2]: True,
        peers[3]: False,
    }
    completed = (await node.facts(outcome.request))[-1]
    assert isinstance(completed, RequestCompleted)
    assert completed.votes == outcome.votes


async def test_consensus_stops_once_the_outcome_is_certain_and_takes_back_the_rest() -> None:
    node, peers = await asker(says("4", 1.0), says("4", 1.0), hangs())
    outcome = await node.requests.ask(consensus(3, timeout_s=60))
    assert outcome.latency_ms == pytest.approx(1000, abs=50)
    assert node.experts[peers[2], "a"].cancelled == 1
    assert node.state.attempts_in_flight() == 0
    assert f"{peers[2]}/a: cancelled" not in outcome.failures


async def test_consensus_gives_up_as_soon_as_no_quorum_is_possible() -> None:
    node, _ = await asker(says("1"), says("2"), says("3", 0.5), hangs(), hangs())
    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask(consensus(5, quorum=5, timeout_s=60))
    assert failure.value.kind == "no_quorum"
    assert node.clock.monotonic() < 1
    facts = await node.facts(failure.value.request)
    assert isinstance(facts[-1], RequestFailed)
    assert {vote.agrees for vote in facts[-1].votes} == {False}
    assert len(facts[-1].votes) >= 2


async def test_consensus_without_enough_peers_asks_nobody() -> None:
    node, peers = await asker(says("4"))
    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask(consensus(3))
    assert failure.value.kind == "no_quorum"
    assert not node.experts[peers[0], "a"].asked


async def test_a_peer_has_one_vote_however_many_experts_it_has() -> None:
    node, peers = await asker(says("5"), says("4"), says("4"))
    for name in ("b", "c", "d", "e"):
        node.offer(peers[0], name, says("5"))
    outcome = await node.requests.ask(consensus(5, quorum=2))
    assert outcome.text == "4"
    assert len({vote.peer for vote in outcome.votes}) == len(outcome.votes)


async def test_an_unsigned_vote_does_not_count() -> None:
    node, peers = await asker(says("5"), says("5"), says("4"), says("4"), says("4"))
    for peer in peers[:2]:
        node.experts[peer, "a"].identity = node.links[peers[4]]  # signs with another node's key
    outcome = await node.requests.ask(consensus(5))
    assert outcome.text == "4"
    assert {vote.peer for vote in outcome.votes} <= set(peers[2:])
    assert all(failure.endswith("protocol") for failure in outcome.failures)


async def test_a_peer_that_fails_is_replaced_but_one_that_dissents_is_not() -> None:
    node, peers = await asker(fails("failed"), says("4", 0.2), says("5", 0.1), says("4", 0.2))
    node.state.offers[peers[3]]["a"].quality = 0.0
    node.state.offers[peers[3]]["a"].queued = 60
    outcome = await node.requests.ask(consensus(3, policy="weighted"))
    assert outcome.text == "4"
    assert outcome.fallback == "consensus: 1 that failed replaced by others"
    assert outcome.attempts == 4


async def test_a_cancelled_consensus_leaves_no_attempt_open() -> None:
    node, _ = await asker(*[hangs()] * 4)
    asking = asyncio.create_task(node.requests.ask(consensus(4)))
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    story = await node.story("request-1")
    assert story.count("dispatched") == story.count("attempt_failed") == 4
    assert story[-1] == "cancelled"
    assert node.state.attempts_in_flight() == 0
