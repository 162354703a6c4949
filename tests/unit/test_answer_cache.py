"""Equal requests: one does the work, all have the answer, and nobody's misfortune is another's."""

import asyncio
from typing import Any

import pytest

from mesh.config import CacheConfig, RoutingConfig
from mesh.events.vocabulary.requests import RequestCompleted
from mesh.experts.cache import AnswerCache, is_deterministic, key_of
from mesh.experts.calls import AttemptFailed, Call, Emit
from mesh.experts.plan import Plan, make_plan
from mesh.experts.queries import Query, QueryFailed
from tests.kit.asking import Asker, Work, fails, says

pytestmark = pytest.mark.looptime
SURE: dict[str, Any] = {"content": "hi", "domain": "language", "options": {"temperature": 0}}


async def asker(work: Work, **cache: Any) -> Asker:
    node = await Asker().open()
    node.serve("echo", work)
    node.requests._cache = AnswerCache(CacheConfig(**cache), node.clock.monotonic)
    return node


def counts(work: Work) -> tuple[Work, list[str]]:
    calls: list[str] = []

    async def counted(call: Call, emit: Emit) -> str:
        calls.append(call.request)
        return await work(call, emit)

    return counted, calls


def plan_of(**fields: Any) -> Plan:
    return make_plan("r", Query(**{"content": "hi", **fields}), RoutingConfig(), Asker().state)


async def test_a_hit_asks_nobody_and_names_the_original() -> None:
    work, calls = counts(says("hello", 1))
    node = await asker(work)
    first = await node.requests.ask(SURE)
    again = await node.requests.ask({**SURE, "caller": "somebody else", "policy": "round_robin", "timeout_s": 5})
    assert calls == [first.request]
    assert (again.text, again.model, again.expert, again.peers) == ("hello", first.model, "echo", first.peers)
    assert (first.cached_from, again.cached_from, again.attempts) == ("", first.request, 0)
    assert await node.story(again.request) == ["received", "completed"]
    completed = (await node.facts(again.request))[-1]
    assert isinstance(completed, RequestCompleted)
    assert (completed.cached_from, completed.answer_digest) == (first.request, first.digest)


@pytest.mark.parametrize(
    "other",
    [
        {"content": "ho"},
        {"options": {"temperature": 0, "max_tokens": 5}},
        {"strategy": "local_only"},
        {"expert": "echo"},
        {"chat": {"messages": [{"role": "user", "content": "hi"}]}},
        {"cache": "off"},
    ],
)
async def test_anything_else_is_another_question(other: dict[str, Any]) -> None:
    work, calls = counts(says("hello"))
    node = await asker(work)
    await node.requests.ask(SURE)
    assert (await node.requests.ask({**SURE, **other})).cached_from == ""
    assert len(calls) == 2


async def test_what_may_differ_each_time_is_kept_only_for_who_says_so() -> None:
    work, calls = counts(says("hello"))
    node = await asker(work)
    for _ in range(2):
        await node.requests.ask({"content": "hi", "domain": "language"})
    assert len(calls) == 2
    for _ in range(3):
        await node.requests.ask({"content": "hi", "domain": "language", "cache": "on"})
    assert len(calls) == 3


async def test_modes() -> None:
    for mode, expected in (("off", 4), ("asked", 4), ("deterministic", 3), ("all", 2)):
        work, calls = counts(says("hello"))
        node = await asker(work, mode=mode)
        for query in (SURE, SURE, {**SURE, "options": {}}, {**SURE, "options": {}}):
            await node.requests.ask(query)
        assert len(calls) == expected, mode


async def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    work, calls = counts(says("hello"))
    node = await asker(work, ttl_s=10)
    await node.requests.ask(SURE)
    await asyncio.sleep(9.9)
    await node.requests.ask(SURE)
    assert len(calls) == 1
    await asyncio.sleep(0.2)
    await node.requests.ask(SURE)
    assert len(calls) == 2


async def test_memory_is_bounded_and_the_longest_unused_go_first() -> None:
    work, calls = counts(says("x" * 15_000))
    node = await asker(work, max_bytes=1 << 16)
    for content in ("a", "b", "c", "d", "a", "e"):
        await node.requests.ask({**SURE, "content": content})
    assert node.requests._cache.bytes <= 1 << 16
    await node.requests.ask({**SURE, "content": "a"})
    assert len(calls) == 5
    await node.requests.ask({**SURE, "content": "b"})
    assert calls[-1] == (await node.events())[-1].correlation


async def test_callers_can_be_kept_apart() -> None:
    work, calls = counts(says("hello"))
    node = await asker(work, share="caller")
    for caller in ("a", "b", "a"):
        await node.requests.ask({**SURE, "caller": caller})
    assert len(calls) == 2


async def test_equal_requests_at_the_same_moment_share_one_piece_of_work() -> None:
    work, calls = counts(says("hello", 1))
    node = await asker(work)
    outcomes = await asyncio.gather(*(node.requests.ask(SURE) for _ in range(10)))
    assert len(calls) == 1
    assert {outcome.text for outcome in outcomes} == {"hello"}
    assert [outcome.cached_from for outcome in outcomes].count(calls[0]) == 9
    ends = [event.correlation for event in await node.events() if event.type == "request.completed"]
    assert ends[0] == calls[0], "nobody has the answer before its own request has"


async def test_the_failure_of_the_first_does_not_doom_the_others() -> None:
    tries = 0

    async def fails_once(call: Call, emit: Emit) -> str:
        nonlocal tries
        tries += 1
        await asyncio.sleep(1)
        if tries == 1:
            raise AttemptFailed("invalid", "not this time")
        return "hello"

    node = await asker(fails_once)
    outcomes = await asyncio.gather(*(node.requests.ask(SURE) for _ in range(5)), return_exceptions=True)
    assert [isinstance(outcome, QueryFailed) for outcome in outcomes] == [True, False, False, False, False]
    assert tries == 2
    assert not node.requests._cache._flights


async def test_when_the_first_is_taken_back_the_next_does_the_work() -> None:
    work, calls = counts(says("hello", 1))
    node = await asker(work)
    tasks = [asyncio.create_task(node.requests.ask(SURE)) for _ in range(4)]
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [outcome.text for outcome in outcomes[1:]] == ["hello"] * 3
    assert len(calls) == 2
    assert await node.story(calls[0]) == ["received", "routed", "dispatched", "attempt_failed", "cancelled"]


async def test_who_takes_over_and_is_taken_back_at_once_hands_over_again() -> None:
    node = await asker(says("hello", 1))
    tasks = [asyncio.create_task(node.requests.ask(SURE)) for _ in range(4)]
    await asyncio.sleep(0.5)
    for task in tasks[:3]:
        task.cancel()
    assert (await tasks[3]).text == "hello"
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not node.requests._cache._flights


async def test_who_waits_for_another_keeps_its_own_deadline() -> None:
    node = await asker(says("hello", 10))
    slow = asyncio.create_task(node.requests.ask(SURE))
    await asyncio.sleep(0)
    with pytest.raises(QueryFailed, match="an equal request that is at work") as late:
        await node.requests.ask({**SURE, "timeout_s": 2})
    assert late.value.kind == "expired"
    assert (await slow).text == "hello"


async def test_failures_and_answers_that_lack_a_part_are_not_kept() -> None:
    node = await Asker().open()
    bad, good = node.connect(2), node.connect(3)
    node.offer(bad, "a", fails("failed"))
    node.offer(good, "a", says("fine"))
    query = {**SURE, "strategy": "distributed", "fan_out": 2}
    assert (await node.requests.ask(query)).failures
    assert (await node.requests.ask(query)).cached_from == ""


async def test_a_hit_is_streamed_whole_to_who_wants_a_stream() -> None:
    node = await asker(says("hello"))
    await node.requests.ask(SURE)
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    await node.requests.ask(SURE, emit)
    assert pieces == ["hello"]


def test_what_counts_as_deterministic() -> None:
    assert is_deterministic(plan_of(options={"temperature": 0.0}))
    assert is_deterministic(plan_of(options={"seed": 7, "temperature": 1}))
    assert is_deterministic(plan_of(content='["a"]', task="embed"))
    assert not is_deterministic(plan_of(options={"temperature": 0.1}))
    assert not is_deterministic(plan_of())


def test_the_order_of_options_is_no_difference() -> None:
    one, other = plan_of(options={"seed": 1, "top_p": 0.5}), plan_of(options={"top_p": 0.5, "seed": 1})
    assert key_of(one, CacheConfig()) == key_of(other, CacheConfig())


async def test_who_is_taken_back_in_the_moment_of_taking_over_hands_over() -> None:
    cache = AnswerCache(CacheConfig(), lambda: 0.0)
    assert cache.join("k") is None
    second, third = cache.join("k"), cache.join("k")
    assert second is not None
    assert third is not None
    cache.land("k", None)
    assert second.done()
    assert not third.done()
    cache.leave("k", second)
    assert third.result() is None
