"""One request has one answer, whoever asks it again."""

import asyncio

import pytest

from mesh.experts.calls import Answer, AttemptFailed, Call
from mesh.experts.replays import MAX_KEPT, Replays

pytestmark = pytest.mark.looptime


def call(request: str = "r", content: str = "q", timeout_ms: int = 1000) -> Call:
    return Call(request=request, expert="a", domain="d", content=content, timeout_ms=timeout_ms)


async def say(replays: Replays, text: str, asked: Call, caller: str = "p", after_s: float = 0.0) -> str:
    async with replays.turn(caller, asked) as said:
        if said.answer is None:
            await asyncio.sleep(after_s)
            replays.keep(said, Answer(text=text))
        assert said.answer is not None
        return said.answer.text


async def test_the_same_again_is_answered_the_same() -> None:
    replays = Replays()
    assert [await say(replays, text, call()) for text in ("one", "two")] == ["one", "one"]
    assert await say(replays, "two", call("other")) == "two"
    assert await say(replays, "three", call(), caller="q") == "three"


async def test_two_at_once_are_one() -> None:
    replays = Replays()
    said = await asyncio.gather(*(say(replays, text, call(), after_s=0.5) for text in ("one", "two")))
    assert said == ["one", "one"]


async def test_an_id_that_was_used_is_not_taken_for_another_question() -> None:
    replays = Replays()
    await say(replays, "one", call())
    with pytest.raises(AttemptFailed, match="another question") as failure:
        await say(replays, "two", call(content="other"))
    assert failure.value.kind == "invalid"


async def test_who_failed_or_was_cancelled_is_asked_anew() -> None:
    replays = Replays()
    with pytest.raises(ZeroDivisionError):
        async with replays.turn("p", call()):
            raise ZeroDivisionError
    assert await say(replays, "two", call(content="other")) == "two"


async def test_waiting_ends_with_the_callers_time() -> None:
    replays = Replays()
    first = asyncio.create_task(say(replays, "one", call(timeout_ms=60_000), after_s=30))
    await asyncio.sleep(1)
    with pytest.raises(AttemptFailed) as failure:
        await say(replays, "two", call(timeout_ms=2000))
    assert failure.value.kind == "expired"
    assert await first == "one"


async def test_what_is_kept_is_bounded() -> None:
    replays = Replays(max_answers=3, max_bytes=100)
    for number in range(10):
        await say(replays, "x" * 30, call(f"r{number}"))
    assert len(replays._given) <= 3
    assert not replays._asked
    assert replays._bytes <= 100
    async with replays.turn("p", call("long")) as said:
        replays.keep(said, Answer(text="x" * (MAX_KEPT + 1)))
    with pytest.raises(AttemptFailed, match="not kept"):
        await say(replays, "other", call("long"))


async def test_what_is_worked_on_is_not_let_go_for_what_came_later() -> None:
    replays = Replays(max_answers=2, max_bytes=100)
    slow = asyncio.create_task(say(replays, "slow", call("slow"), after_s=0.5))
    await asyncio.sleep(0.1)
    for number in range(10):
        await say(replays, "x", call(f"r{number}"))
    again = asyncio.create_task(say(replays, "again", call("slow")))
    assert [await slow, await again] == ["slow", "slow"]
    assert replays._bytes <= len("slow" + "x")


async def test_who_waited_for_what_was_let_go_leaves_its_successor_alone() -> None:
    replays = Replays(max_answers=1)
    said = await asyncio.gather(*(say(replays, text, call(), after_s=0.2) for text in ("one", "two")))
    await say(replays, "x", call("other"))
    successor = asyncio.create_task(say(replays, "three", call(), after_s=0.5))
    await asyncio.sleep(0.1)
    assert said == ["one", "one"]
    assert await say(replays, "four", call()) == await successor == "three"
