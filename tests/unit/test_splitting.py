"""`distributed`, of a text with several parts: each part goes to the best expert of its domain."""

import msgspec
import pytest

from mesh.config import RoutingConfig
from mesh.events.vocabulary.experts import ExpertEquivocated
from mesh.events.vocabulary.requests import (
    RequestAnswered,
    RequestCompleted,
    RequestDispatched,
    RequestFailed,
    RequestReceived,
    RequestRouted,
    RequestSplit,
)
from mesh.experts.answers import verify_answer
from mesh.experts.candidates import RoutingInputs
from mesh.experts.explain import explain
from mesh.experts.queries import QueryFailed, QueryRejected
from mesh.experts.state import fold
from tests.kit.asking import Asker, Work, fails, says

pytestmark = pytest.mark.looptime
TEXT = "Be brief:\n1. What is 2 + 2?\n2. Write a poem\n   about the sea\n"


async def asker(config: RoutingConfig | None = None, **works: Work) -> Asker:
    """A node with one peer for each domain in ``works``."""
    node = await Asker(config=config).open()
    for number, (domain, work) in enumerate(works.items(), 2):
        node.offer(node.connect(number), f"{domain}-expert", work, domains=(domain,))
    return node


def asked(node: Asker, domain: str) -> list[str]:
    (expert,) = (serving for (_, name), serving in node.experts.items() if name == f"{domain}-expert")
    return [call.content for call in expert.asked]


async def ask(node: Asker, content: str = TEXT, **choices: object):
    return await node.requests.ask({"content": content, "strategy": "distributed", **choices})


async def test_each_part_goes_to_an_expert_of_its_domain_and_the_answer_names_both() -> None:
    node = await asker(mathematics=says("4"), language=says(" waves "))
    outcome = await ask(node)
    peers = {expert: peer[-8:] for peer, expert in node.experts}
    assert outcome.text == (
        f"## 1. What is 2 + 2? (mathematics, mathematics-expert at {peers['mathematics-expert']})\n\n4\n\n"
        f"## 2. Write a poem (language, language-expert at {peers['language-expert']})\n\nwaves"
    )
    assert asked(node, "mathematics") == ["What is 2 + 2?"]
    assert asked(node, "language") == ["Write a poem\n   about the sea"]
    assert [(end.part, end.domain, end.expert) for end in outcome.parts] == [
        (1, "mathematics", "mathematics-expert"),
        (2, "language", "language-expert"),
    ]
    assert len(outcome.peers) == 2


async def test_who_takes_conversations_hears_the_introduction_too() -> None:
    node = await asker(mathematics=says("4"), language=says("waves"))
    messages = [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": TEXT}]
    await ask(node, chat={"messages": messages})
    await ask(node)
    chats = [msgspec.json.decode(call.chat)["messages"] for call in next(iter(node.experts.values())).asked]
    assert chats[0] == [messages[0], {"role": "user", "content": "Be brief:\n1. What is 2 + 2?"}]
    assert chats[1] == [{"role": "user", "content": "Be brief:\n1. What is 2 + 2?"}]


async def test_parts_are_asked_at_once() -> None:
    node = await asker(mathematics=says("4", 2.0), language=says("waves", 3.0))
    assert (await ask(node)).latency_ms == pytest.approx(3000, abs=50)


async def test_a_part_that_fails_is_reported_in_its_place() -> None:
    node = await asker(mathematics=fails("unavailable", "no engine"), language=says("waves"))
    outcome = await ask(node)
    assert "(mathematics, no answer)\n\nunavailable: no engine" in outcome.text
    assert "waves" in outcome.text
    assert [end.error for end in outcome.parts] == ["unavailable", ""]
    assert "part 1: unavailable" in outcome.failures
    completed = (await node.facts(outcome.request))[-1]
    assert isinstance(completed, RequestCompleted)
    assert completed.parts == outcome.parts


async def test_a_part_that_is_late_does_not_keep_the_others_from_the_caller() -> None:
    node = await asker(mathematics=fails("expired", "too slow", after_s=5), language=says("waves"))
    outcome = await ask(node, timeout_s=5)
    assert "waves" in outcome.text
    assert [end.error for end in outcome.parts] == ["expired", ""]


async def test_without_any_answer_it_fails_and_says_what_became_of_each() -> None:
    node = await asker(mathematics=fails("unavailable", "no engine"), language=fails("invalid", "no words"))
    with pytest.raises(QueryFailed, match="none of the 2 parts") as failure:
        await ask(node)
    assert failure.value.kind == "unavailable"
    assert [end.error for end in failure.value.parts] == ["unavailable", "invalid"]
    failed = (await node.facts(failure.value.request))[-1]
    assert isinstance(failed, RequestFailed)
    assert failed.parts == failure.value.parts


async def test_a_part_fails_over_like_any_request() -> None:
    node = await asker(mathematics=fails("failed"), language=says("waves"))
    node.offer(node.connect(9), "second", says("4!"), domains=("mathematics",))
    for _ in range(4):
        outcome = await ask(node)
        assert [end.error for end in outcome.parts] == ["", ""]
    purposes = {(one.part, one.purpose) for one in await node.facts() if isinstance(one, RequestDispatched)}
    assert (1, "retry") in purposes
    assert {part for part, _ in purposes} == {1, 2}
    assert (2, "retry") not in purposes


@pytest.mark.parametrize(
    ("content", "choices", "why"),
    [
        (TEXT, {"split": "never"}, None),
        (TEXT, {"domain": "language"}, None),
        (TEXT, {"expert": "language-expert"}, None),
        (TEXT, {"needs": ["tools"]}, None),
        ("How much is 2 + 2?", {}, None),
        ("1. What is 2 + 2?\n2. What is 3 + 3?", {}, "its parts are not of several domains"),
        ("1. zzz?\n2. What is 3 + 3?", {}, "its parts are not of several domains"),
        ("".join(f"{n}. What is 2 + 2?\n" for n in range(1, 18)), {"split": "always"}, "17 parts are more than 16"),
    ],
)
async def test_these_stay_whole(content: str, choices: dict[str, object], why: str | None) -> None:
    node = await asker(mathematics=says("4"), language=says("waves"))
    try:
        outcome = await ask(node, content, **choices)
    except QueryFailed as failure:
        assert "tools" in str(choices)
        request = failure.request
    else:
        assert not outcome.parts
        request = outcome.request
    splits = [fact for fact in await node.facts(request) if isinstance(fact, RequestSplit)]
    assert [split.whole for split in splits] == ([] if why is None else [why])
    assert {call.content for serving in node.experts.values() for call in serving.asked} <= {content}


async def test_always_splits_what_is_of_one_domain() -> None:
    node = await asker(mathematics=says("4"))
    outcome = await ask(node, "What is 2 + 2?\n\nWhat is 3 + 3?", split="always")
    assert asked(node, "mathematics") == ["What is 2 + 2?", "What is 3 + 3?"]
    named = await ask(node, "1. abc\n2. def", split="always", domain="mathematics")
    (split,) = [fact for fact in await node.facts(named.request) if isinstance(fact, RequestSplit)]
    assert {(part.domain, part.by) for part in split.parts} == {("mathematics", "caller")}
    expert = await ask(node, "1. zzz\n2. yyy", split="always", expert="mathematics-expert")
    assert [end.error for end in (*outcome.parts, *named.parts, *expert.parts)] == [""] * 6


async def test_a_domain_that_nobody_serves_is_no_reason_to_fail() -> None:
    node = await asker(language=says("waves"))
    outcome = await ask(
        node, "Translate this. 1. What is 2 + 2?\n\nPlease write a poem:\n1. 2 + 2 =\n2. a poem?", domain="auto"
    )
    assert not outcome.parts
    forced = await ask(node, TEXT, split="always", domain="auto")
    (split,) = [fact for fact in await node.facts(forced.request) if isinstance(fact, RequestSplit)]
    assert [(part.domain, part.by, part.note) for part in split.parts] == [
        ("language", "request", "nobody serves mathematics"),
        ("language", "keywords", ""),
    ]
    assert [end.error for end in forced.parts] == ["", ""]


async def test_a_caller_may_bring_parts_and_their_domains() -> None:
    node = await asker(mathematics=says("4"), language=says("waves"))
    parts = [{"content": "anything", "domain": "mathematics"}, "write a poem", {"content": "?", "domain": "astrology"}]
    outcome = await node.requests.ask({"content": "Be brief.", "parts": parts})
    assert outcome.strategy == "distributed"
    assert asked(node, "mathematics") == ["anything"]
    assert [(end.domain, end.error) for end in outcome.parts] == [
        ("mathematics", ""),
        ("language", ""),
        ("astrology", "no_candidates"),
    ]
    (split,) = [fact for fact in await node.facts(outcome.request) if isinstance(fact, RequestSplit)]
    text = "Be brief.\n\nanything\n\nwrite a poem\n\n?"
    assert [text[part.start : part.start + part.chars] for part in split.parts] == ["anything", "write a poem", "?"]
    assert [part.by for part in split.parts] == ["caller", "keywords", "caller"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"content": "x", "split": "always", "strategy": "best_peer"}, "needs the strategy distributed"),
        ({"parts": ["x"], "strategy": "consensus"}, "parts needs the strategy distributed"),
        ({"parts": ["x"], "task": "embed"}, "exclude each other"),
        ({"parts": ["x"], "chat": {"messages": [{"role": "user", "content": "x"}]}}, "exclude each other"),
        ({"parts": [""]}, "at least 1 character"),
        ({"parts": [7]}, "parts.0"),
        ({"parts": [{"content": "x", "domain": "No Domain"}]}, "parts.0.domain"),
        ({"parts": ["x"] * 17}, "at most 16"),
        ({"content": "x", "split": "sometimes"}, "split"),
    ],
)
async def test_bad_choices_are_refused(query: dict[str, object], message: str) -> None:
    node = await asker(language=says("waves"))
    with pytest.raises(QueryRejected, match=message):
        await node.requests.ask(query)


async def test_every_step_is_recorded_recomputed_and_shown() -> None:
    node = await asker(mathematics=says("4", 0.1), language=says("waves", 0.2))
    request = (await ask(node)).request
    assert await node.story(request) == [
        "received", "classified", "split", "routed", "dispatched", "routed", "dispatched", "answered", "answered",
        "completed",
    ]  # fmt: skip
    events = await node.events()
    why = explain(node.id, request, events)
    assert [decision.recomputed for decision in why.decisions] == ["identical"] * 2
    assert [(decision.part, decision.domain, decision.domain_by) for decision in why.decisions] == [
        (1, "mathematics", "keywords"),
        (2, "language", "keywords"),
    ]
    assert [part.domain for part in why.parts] == [end.domain for end in why.ends] == ["mathematics", "language"]
    assert any("by numbers: 1 mathematics, 2 language" in step.text for step in why.timeline)
    routed = [event.fact for event in events if isinstance(event.fact, RequestRouted)]
    assert {msgspec.json.decode(fact.inputs, type=RoutingInputs).strategy for fact in routed} == {"best_peer"}
    assert fold(node.id, events).digest() == node.state.digest()
    assert node.state.attempts_in_flight() == 0


async def test_an_answer_is_signed_for_its_part_so_that_two_parts_are_no_two_answers() -> None:
    node = await Asker().open()
    said = iter(["4", "9"])

    async def counts(call, emit) -> str:
        return next(said)

    peer = node.connect(2)
    node.offer(peer, "a", counts)
    outcome = await node.requests.ask({"parts": ["2 + 2", "3 * 3"], "domain": "language"})
    facts = await node.facts(outcome.request)
    assert not [fact for fact in facts if isinstance(fact, ExpertEquivocated)]
    answers = [fact for fact in facts if isinstance(fact, RequestAnswered)]
    for fact in answers:
        signed = f"{fact.request}.{fact.part}"
        proof = {"expert": "a", "model": fact.model, "digest": fact.answer_digest}
        assert verify_answer(peer, fact.signature, request=signed, **proof)
        assert not verify_answer(peer, fact.signature, request=fact.request, **proof)
    assert {fact.part for fact in answers} == {1, 2}


async def test_an_answer_of_which_a_part_is_missing_is_not_kept() -> None:
    node = await asker(mathematics=fails("failed"), language=says("waves"))
    assert not (await ask(node, cache="on")).cached_from
    again = await ask(node, cache="on")
    assert not again.cached_from
    node.offer(node.connect(8), "better", says("4"), domains=("mathematics",))
    node.lose(next(iter(node.experts))[0])
    whole = await ask(node, cache="on")
    kept = await ask(node, cache="on")
    assert kept.cached_from == whole.request
    assert (kept.text, kept.parts) == (whole.text, whole.parts)
    assert (await ask(node, cache="on", split="never")).cached_from == ""


async def test_parts_of_a_stricter_domain_make_all_of_it_stricter() -> None:
    config = RoutingConfig(content="full", domains={"language": {"content": "digest"}})  # type: ignore[dict-item]
    node = await asker(config, mathematics=says("4"), language=says("waves"))
    given = await node.requests.ask(
        {"domain": "mathematics", "parts": ["2 + 2", {"content": "my secret", "domain": "language"}]}
    )
    open_ = await node.requests.ask({"content": "2 + 2 ="})
    named = await node.requests.ask({"content": "2 + 2", "domain": "mathematics"})
    received = [event.fact for event in await node.events() if isinstance(event.fact, RequestReceived)]
    texts = {fact.request: fact.content for fact in received}
    assert (texts[given.request], texts[open_.request], texts[named.request]) == ("", "", "2 + 2")
