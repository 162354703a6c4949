"""A domain that was guessed is only a guess: the default domain is asked before a request fails for it."""

from typing import Any

import pytest

from mesh.config import DomainRoutingConfig, RoutingConfig
from mesh.events.vocabulary.requests import RequestDispatched, RequestFailed, RequestFellBack
from mesh.experts.explain import IDENTICAL, explain
from mesh.experts.queries import Outcome, QueryFailed
from tests.kit.asking import Asker, Serving, Work, fails, hangs, says, streams

pytestmark = pytest.mark.looptime
# By keywords it is mathematics.
QUESTION = "What is the product of all this?"
REFUSED = "'product' is not a known function"
REASON = "mathematics was a guess (keywords), and it was refused there as invalid"
NOBODY = "mathematics was a guess (keywords), and nobody there could be asked"
HOW = "name one with --domain (domain= in Python, model mesh/<domain> over HTTP)"


async def asker(config: RoutingConfig | None = None, peers: int = 1, **works: Work) -> tuple[Asker, list[Serving]]:
    """A node with ``peers`` that each have an expert for each domain in ``works``."""
    node = await Asker(config=config).open()
    connected = [node.connect(number) for number in range(2, 2 + peers)]
    return node, [
        node.offer(peer, f"{domain}-expert", work, domains=(domain,))
        for peer in connected
        for domain, work in works.items()
    ]


async def ask(node: Asker, content: str = QUESTION, **choices: Any) -> Outcome:
    return await node.requests.ask({"content": content, **choices})


async def failed(node: Asker, content: str = QUESTION, **choices: Any) -> QueryFailed:
    with pytest.raises(QueryFailed) as failure:
        await ask(node, content, **choices)
    return failure.value


async def fell_back(node: Asker, request: str) -> list[RequestFellBack]:
    return [fact for fact in await node.facts(request) if isinstance(fact, RequestFellBack)]


@pytest.mark.parametrize("strategy", ["best_peer", "distributed", "consensus", "local_only"])
async def test_what_the_guess_refuses_the_default_domain_answers(strategy: str) -> None:
    node, _ = await asker(peers=3, mathematics=fails("invalid", REFUSED), language=says("Paris"))
    node.serve("solver", fails("invalid", REFUSED), domains=("mathematics",))
    node.serve("talker", says("Paris"))
    outcome = await ask(node, strategy=strategy)
    assert (outcome.text, outcome.domain, outcome.strategy) == ("Paris", "language", strategy)
    assert outcome.fallback == f"language: {REASON}"
    assert all(failure.endswith(": invalid") for failure in outcome.failures)
    (step,) = await fell_back(node, outcome.request)
    assert (step.strategy, step.to, step.domain, step.reason) == (strategy, "default_domain", "language", REASON)


@pytest.mark.parametrize("strategy", ["best_peer", "distributed", "consensus", "local_only"])
async def test_where_nobody_offers_the_guess_the_default_domain_is_asked(strategy: str) -> None:
    node, _ = await asker(peers=3, language=says("Paris"))
    node.serve("talker", says("Paris"))
    outcome = await ask(node, strategy=strategy)
    assert (outcome.text, outcome.domain, outcome.failures) == ("Paris", "language", ())
    assert outcome.fallback == f"language: {NOBODY}"


async def test_the_whole_of_it_is_recorded_explained_and_recomputed() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED), language=says("Paris"))
    outcome = await ask(node)
    assert await node.story(outcome.request) == [
        "received",
        "classified",
        "routed",
        "dispatched",
        "attempt_failed",
        "fell_back",
        "routed",
        "dispatched",
        "answered",
        "completed",
    ]
    why = explain(node.id, outcome.request, await node.events())
    assert [(one.domain, one.domain_by, one.recomputed) for one in why.decisions] == [
        ("mathematics", "keywords", IDENTICAL),
        ("language", "fallback", IDENTICAL),
    ]
    assert f"to the domain language: {REASON}" in [step.text for step in why.timeline]
    assert why.fallback == f"language: {REASON}"


@pytest.mark.parametrize("choices", [{"domain": "mathematics"}, {"expert": "mathematics-expert"}])
async def test_what_the_caller_named_is_never_changed(choices: dict[str, str]) -> None:
    node, (_, talker) = await asker(mathematics=fails("invalid", REFUSED), language=says("Paris"))
    failure = await failed(node, **choices)
    assert (failure.kind, failure.message) == ("invalid", REFUSED)
    assert not talker.asked
    assert not await fell_back(node, failure.request)


async def test_a_failure_that_says_nothing_of_the_domain_does_not_change_it() -> None:
    node, (_, talker) = await asker(mathematics=fails("failed", "broken"), language=says("Paris"))
    assert (await failed(node)).kind == "failed"
    assert not talker.asked


async def test_it_can_be_switched_off() -> None:
    node, (_, talker) = await asker(mathematics=fails("invalid", REFUSED), language=says("Paris"))
    failure = await failed(node, fallback="off")
    assert failure.message == f"{REFUSED}; the domain 'mathematics' was guessed: {HOW}"
    assert not talker.asked


async def test_an_error_says_that_the_domain_was_guessed_and_what_to_do() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED))
    failure = await failed(node)
    assert str(failure) == failure.message == f"{REFUSED}; the domain 'mathematics' was guessed: {HOW}"
    fact = (await node.facts(failure.request))[-1]
    assert isinstance(fact, RequestFailed)
    assert fact.message == failure.message
    node, _ = await asker(coding=says("x"))
    failure = await failed(node)
    assert failure.kind == "no_candidates"
    assert failure.message.endswith(f"; the domain 'mathematics' was guessed: {HOW}")
    assert "guessed" not in (await failed(node, domain="mathematics")).message


async def test_a_hint_goes_on_where_a_sentence_ends() -> None:
    node, _ = await asker(mathematics=fails("invalid", "It can: add."))
    assert (await failed(node)).message == f"It can: add; the domain 'mathematics' was guessed: {HOW}"
    assert (await failed(node, domain="mathematics")).message == "It can: add."


async def test_where_the_default_domain_fails_too_both_are_named() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED), language=fails("failed", "broken"))
    failure = await failed(node)
    assert failure.kind == "failed"
    assert failure.message == f"broken; the domains 'mathematics' and 'language' were guessed: {HOW}"


async def test_nobody_to_ask_after_a_refusal_leaves_the_refusal() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED))
    node.offer(gone := node.connect(9), "talker", says("never"))
    node.lose(gone)
    failure = await failed(node)
    assert (failure.kind, failure.message.partition(";")[0]) == ("invalid", REFUSED)


async def test_a_deadline_has_nothing_to_do_with_the_domain() -> None:
    node, _ = await asker(mathematics=hangs())
    failure = await failed(node, timeout_s=1)
    assert failure.kind == "expired"
    assert "guessed" not in failure.message


async def test_the_deadline_is_one_for_both() -> None:
    node, (_, talker) = await asker(mathematics=fails("invalid", REFUSED, after_s=3), language=hangs())
    failure = await failed(node, timeout_s=5)
    assert failure.kind == "expired"
    assert node.clock.monotonic() == pytest.approx(5, abs=0.1)
    assert talker.asked[0].timeout_ms == pytest.approx(2000, abs=5)


@pytest.mark.parametrize(("attempts", "asked"), [(1, 0), (2, 1), (3, 2)])
async def test_the_limit_of_attempts_is_one_for_both(attempts: int, asked: int) -> None:
    node, _ = await asker(RoutingConfig(attempts=attempts), mathematics=fails("invalid", REFUSED))
    for number in (11, 12, 13):
        node.offer(node.connect(number), "talker", fails("failed"))
    failure = await failed(node)
    sent = [fact for fact in await node.facts(failure.request) if isinstance(fact, RequestDispatched)]
    assert [fact.expert for fact in sent] == ["mathematics-expert"] + ["talker"] * asked


async def test_who_refused_is_not_asked_again_in_another_domain() -> None:
    node = await Asker().open()
    both = node.offer(node.connect(2), "both", fails("invalid", "too long"), domains=("mathematics", "language"))
    failure = await failed(node)
    assert failure.message.startswith("too long; ")
    assert len(both.asked) == 1


async def test_refusals_are_no_work_done_twice_and_never_over_the_budget() -> None:
    node, _ = await asker(
        RoutingConfig(retry_budget=0, retry_reserve=0), mathematics=fails("invalid", REFUSED), language=says("Paris")
    )
    for _ in range(30):
        assert (await ask(node)).text == "Paris"
    purposes = {(fact.expert, fact.purpose) for fact in await node.facts() if isinstance(fact, RequestDispatched)}
    assert purposes == {("mathematics-expert", "first"), ("language-expert", "moved")}


async def test_each_domain_has_its_own_settings() -> None:
    domains = {
        "mathematics": DomainRoutingConfig(strategy="consensus", timeout_s=9),
        "language": DomainRoutingConfig(strategy="best_peer", policy="round_robin", timeout_s=99),
    }
    config = RoutingConfig(domains=domains)
    node, _ = await asker(config, peers=3, mathematics=fails("invalid", REFUSED), language=says("Paris"))
    outcome = await ask(node)
    assert (outcome.text, outcome.strategy, outcome.policy) == ("Paris", "best_peer", "round_robin")
    sent = [fact for fact in await node.facts(outcome.request) if isinstance(fact, RequestDispatched)]
    assert max(fact.timeout_ms for fact in sent) <= 9000


async def test_what_the_caller_has_a_part_of_is_not_asked_elsewhere() -> None:
    node, (_, talker) = await asker(
        mathematics=streams("one ", then=fails("invalid", REFUSED)), language=streams("Pa", "ris")
    )
    told: list[str] = []

    async def take(text: str) -> None:
        told.append(text)

    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask({"content": QUESTION}, take)
    assert failure.value.kind == "broken_stream"
    assert not talker.asked


async def test_an_answer_after_a_wrong_guess_is_streamed() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED), language=streams("Pa", "ris"))
    told: list[str] = []

    async def take(text: str) -> None:
        told.append(text)

    await node.requests.ask({"content": QUESTION}, take)
    assert told == ["Pa", "ris"]


async def test_a_part_of_a_wrong_guess_goes_to_the_default_domain_by_itself() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED), coding=says("print"), language=says("Paris"))
    content = f"1. {QUESTION}\n2. Fix this Python function"
    told: list[str] = []

    async def take(text: str) -> None:
        told.append(text)

    outcome = await node.requests.ask({"content": content, "strategy": "distributed"}, take)
    assert [(end.domain, end.expert, end.error) for end in outcome.parts] == [
        ("language", "language-expert", ""),
        ("coding", "coding-expert", ""),
    ]
    assert outcome.fallback == f"part 1: language: {REASON}"
    assert f"## 1. {QUESTION} (language, language-expert at " in outcome.text
    assert "".join(told) == outcome.text
    assert [(step.part, step.domain) for step in await fell_back(node, outcome.request)] == [(1, "language")]
    why = explain(node.id, outcome.request, await node.events())
    assert {decision.recomputed for decision in why.decisions} == {IDENTICAL}


async def test_parts_without_any_answer_are_told_with_the_domains_that_were_guessed() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED), coding=fails("invalid", "no Python"))
    failure = await failed(node, f"1. {QUESTION}\n2. Fix this Python function", strategy="distributed")
    assert failure.message.endswith(f"; the domains 'mathematics' and 'coding' were guessed: {HOW}")


async def test_parts_that_were_refused_in_both_domains_are_not_asked_again_as_a_whole() -> None:
    node, experts = await asker(
        mathematics=fails("invalid", REFUSED), coding=fails("invalid", "no"), language=fails("invalid", "neither")
    )
    failure = await failed(node, f"1. {QUESTION}\n2. Fix this Python function", strategy="distributed")
    assert [len(expert.asked) for expert in experts] == [1, 1, 2]
    assert [step.part for step in await fell_back(node, failure.request)] == [1, 2]
    assert failure.failures[-2:] == ("part 1: invalid", "part 2: invalid")
    assert len(failure.failures) == 6


async def test_what_was_said_to_a_part_before_it_was_refused_is_not_in_the_answer_to_it() -> None:
    node, _ = await asker(
        mathematics=streams("wrong ", then=fails("invalid", REFUSED)),
        coding=streams("print", then=says("print", after_s=2)),
        language=says("Paris", after_s=5),
    )
    told: list[str] = []

    async def take(text: str) -> None:
        told.append(text)

    content = f"1. Fix this Python function\n2. {QUESTION}"
    outcome = await node.requests.ask({"content": content, "strategy": "distributed"}, take)
    assert "".join(told) == outcome.text
    assert "wrong" not in outcome.text
