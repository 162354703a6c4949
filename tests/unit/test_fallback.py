"""What is done when a strategy cannot be followed, how it is recorded, and what domains have of their own."""

from typing import Any

import pytest

from mesh.config import DomainRoutingConfig, RoutingConfig
from mesh.events.vocabulary.requests import RequestFellBack
from mesh.experts.explain import explain
from mesh.experts.plan import make_plan
from mesh.experts.queries import Outcome, Query, QueryFailed
from tests.kit.asking import Asker, fails, says

pytestmark = pytest.mark.looptime


async def steps(node: Asker, request: str) -> list[tuple[str, str]]:
    return [(fact.to, fact.reason) for fact in await node.facts(request) if isinstance(fact, RequestFellBack)]


async def ask(node: Asker, **more: Any) -> Outcome:
    return await node.requests.ask({"content": "hi", "domain": "language", **more})


async def test_best_peer_then_this_node() -> None:
    node = await Asker(config=RoutingConfig(attempts=2)).open()
    for number in (2, 3, 4):
        node.offer(node.connect(number), "a", fails("failed"), quality=1.0)
    node.serve("own", says("mine"))
    node.state.offers[node.id]["own"].quality = 0.0
    outcome = await ask(node, policy="weighted")
    assert (outcome.text, outcome.fallback) == ("mine", "local: after 2 failed")
    assert await steps(node, outcome.request) == [("local", "2 failed")]
    lines = explain(node.id, outcome.request, await node.events()).timeline
    assert "strategy=best_peer, to=local, reason=2 failed" in [step.text for step in lines]


async def test_distributed_then_best_peer_then_this_node() -> None:
    node = await Asker(config=RoutingConfig(attempts=1)).open()
    for number in (2, 3, 4):
        node.offer(node.connect(number), "a", fails("failed"), quality=1.0)
    node.serve("own", says("mine"))
    node.state.offers[node.id]["own"].quality = 0.0
    outcome = await ask(node, strategy="distributed", fan_out=2, policy="weighted")
    assert (outcome.text, outcome.fallback) == ("mine", "best_peer: all 2 parts failed")
    assert await steps(node, outcome.request) == [("best_peer", "all 2 parts failed"), ("local", "3 failed")]


@pytest.mark.parametrize("strategy", ["best_peer", "distributed"])
async def test_nothing_less_is_tried_where_that_is_not_wanted(strategy: str) -> None:
    node = await Asker(config=RoutingConfig(attempts=1)).open()
    node.offer(node.connect(2), "a", fails("failed", "broken"), quality=1.0)
    node.serve("own", says("mine"))
    node.state.offers[node.id]["own"].quality = 0.0
    with pytest.raises(QueryFailed, match="broken") as failed:
        await ask(node, strategy=strategy, fan_out=1, policy="weighted", fallback="off")
    assert await steps(node, failed.value.request) == []


async def test_a_consensus_that_cannot_be_held_falls_back_only_for_who_says_so() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", says("42"))
    query = {"strategy": "consensus", "fan_out": 4, "quorum": 3}
    with pytest.raises(QueryFailed) as failed:
        await ask(node, **query)
    assert failed.value.kind == "no_quorum"
    outcome = await ask(node, **query, fallback="on")
    assert (outcome.text, outcome.agreement) == ("42", 0)
    assert outcome.fallback.startswith("best_peer: no consensus")
    assert [to for to, _ in await steps(node, outcome.request)] == ["best_peer"]


async def test_a_consensus_in_which_answers_contradict_each_other_never_falls_back() -> None:
    node = await Asker().open()
    for number, text in ((2, "42"), (3, "41"), (4, "43")):
        node.offer(node.connect(number), "a", says(text))
    with pytest.raises(QueryFailed) as failed:
        await ask(node, strategy="consensus", fan_out=3, quorum=2, fallback="on")
    assert failed.value.kind == "no_quorum"
    assert await steps(node, failed.value.request) == []


async def test_at_the_end_there_is_a_clear_error() -> None:
    node = await Asker().open()
    for number in (2, 3):
        node.offer(node.connect(number), "a", fails("unavailable", "its engine is down"))
    with pytest.raises(QueryFailed, match="its engine is down") as failed:
        await ask(node, strategy="distributed", fan_out=2)
    assert (failed.value.kind, len(failed.value.failures)) == ("unavailable", 2)


def plan_of(config: RoutingConfig, **query: Any) -> tuple[Any, ...]:
    plan = make_plan("r", Query(content="hi", **query), config, Asker().state)
    return plan.strategy, plan.policy, plan.timeout_s, plan.attempts, plan.fan_out, plan.fallback


def test_a_domain_has_choices_of_its_own_and_the_caller_has_the_last_word() -> None:
    own = DomainRoutingConfig(strategy="distributed", policy="weighted", timeout_s=9, fan_out=2, fallback="off")
    config = RoutingConfig(domains={"mathematics": own})
    assert plan_of(config, domain="language") == ("best_peer", "p2c_peak_ewma", 60, 3, 1, "auto")
    assert plan_of(config, domain="mathematics") == ("distributed", "weighted", 9, 3, 2, "off")
    asked = {"strategy": "best_peer", "policy": "round_robin", "timeout_s": 5, "fallback": "on"}
    assert plan_of(config, domain="mathematics", **asked) == ("best_peer", "round_robin", 5, 3, 1, "on")
