"""A split answer that is streamed: its sections come in their order, each piece as soon as it may."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from mesh.events.vocabulary.requests import RequestCancelled
from mesh.experts.calls import Call, Emit
from mesh.experts.queries import Outcome, QueryFailed
from tests.kit.asking import Asker, Work, fails, hangs, says, streams

pytestmark = pytest.mark.looptime
DOMAINS = ("mathematics", "language", "coding")


class Caller:
    """Asks for parts that each go to an expert of their own, and notes each piece with when it came."""

    def __init__(self, node: Asker, domains: Sequence[str]) -> None:
        self.node = node
        self.domains = domains
        self.came: list[tuple[float, str]] = []
        self.pause_s = 0.0
        self.takes = 1_000_000

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.came)

    def at(self, text: str) -> float:
        """When this had come."""
        return next(
            at for place, (at, _) in enumerate(self.came) if text in "".join(t for _, t in self.came[: place + 1])
        )

    async def take(self, text: str) -> None:
        if len(self.came) >= self.takes:
            raise ConnectionError("hung up")
        self.came.append((asyncio.get_running_loop().time(), text))
        await asyncio.sleep(self.pause_s)

    async def ask(self, **choices: object) -> Outcome:
        parts = [{"content": f"question {domain}", "domain": domain} for domain in self.domains]
        return await self.node.requests.ask({"parts": parts, **choices}, self.take)


async def caller(*works: Work) -> Caller:
    node = await Asker().open()
    for number, (domain, work) in enumerate(zip(DOMAINS, works, strict=False), 2):
        node.offer(node.connect(number), f"{domain}-expert", work, domains=(domain,))
    return Caller(node, DOMAINS[: len(works)])


async def test_the_first_section_goes_by_as_it_is_said_and_the_next_once_it_has_ended() -> None:
    who = await caller(streams(" one", " two \n", " three ", "\n", every_s=1.0), streams("four", " five", every_s=1.5))
    outcome = await who.ask()
    assert who.text == outcome.text
    ends = [f"{peer[-8:]})\n\n" for peer, _ in who.node.experts]
    assert outcome.text == (
        f"## 1. question mathematics (mathematics, mathematics-expert at {ends[0]}one two \n three\n\n"
        f"## 2. question language (language, language-expert at {ends[1]}four five"
    )
    assert who.at("one") == pytest.approx(1, abs=0.1)
    assert who.at("two") == pytest.approx(2, abs=0.1)
    assert who.at("three") == pytest.approx(3, abs=0.1)
    assert who.at("four five") == pytest.approx(4, abs=0.1)


async def test_a_section_whose_turn_comes_while_it_is_said_goes_on_piece_by_piece() -> None:
    who = await caller(says("one", 1.5), streams("two ", "three ", "four", every_s=1.0))
    outcome = await who.ask()
    assert who.text == outcome.text
    assert [who.at(word) for word in ("one", "two", "three", "four")] == pytest.approx([1.5, 1.5, 2, 3], abs=0.1)


async def test_a_section_that_came_in_one_piece_does_not_wait_for_the_next() -> None:
    who = await caller(says("one", 1.0), says("two", 5.0))
    assert (await who.ask()).text == who.text
    assert [who.at("one"), who.at("two")] == pytest.approx([1, 5], abs=0.1)


async def test_streamed_or_not_the_answer_is_the_same() -> None:
    who = await caller(streams(" 4 "), fails("failed", "no engine"), streams("\n", "x = 1", "\n"))
    assert (await who.ask()).text == who.text
    whole = await who.node.requests.ask(
        {"parts": [{"content": f"question {domain}", "domain": domain} for domain in DOMAINS]}
    )
    assert whole.text == who.text


async def test_what_waits_may_be_answered_by_somebody_else() -> None:
    who = await caller(says("one", 5), streams("tw", then=fails("failed"), every_s=1.0))
    who.node.offer(who.node.connect(9), "second", streams("two", every_s=1.0), domains=("language",))
    outcomes = [await who.ask() for _ in range(4)]
    assert [end.error for outcome in outcomes for end in outcome.parts] == [""] * 8
    assert who.text == "".join(outcome.text for outcome in outcomes)
    assert any(outcome.attempts == 3 for outcome in outcomes)
    assert "twtwo" not in who.text


async def test_what_a_failed_expert_said_does_not_precede_the_answer_of_the_next() -> None:
    who = await caller(streams("one", then=says("one", after_s=2)), streams("wrong ", then=fails("failed")))
    peer = who.node.connect(9)
    who.node.offer(peer, "other", says("right", after_s=5), domains=("language",), quality=0.1)
    outcome = await who.ask(policy="weighted")
    assert len(outcome.failures) == 1
    assert who.text == outcome.text
    assert outcome.text.endswith(f" (language, other at {peer[-8:]})\n\nright")


async def test_nobody_else_is_asked_while_the_caller_takes_what_waited() -> None:
    second = streams("two", then=fails("failed", "died", after_s=8))
    who = await caller(streams("one", then=says("one", after_s=1)), second)
    other = who.node.offer(who.node.connect(9), "other", says("right"), domains=("language",), quality=0.1)
    who.pause_s = 5
    outcome = await who.ask(policy="weighted")
    assert [end.error for end in outcome.parts] == ["", "broken_stream"]
    assert who.text == outcome.text
    assert not other.asked


async def test_a_section_that_breaks_off_says_so_and_the_others_follow() -> None:
    who = await caller(streams("one", then=fails("failed", "no engine"), every_s=1.0), says("two"))
    outcome = await who.ask()
    assert "one\n\nbroken_stream: the answer broke off after 3 characters: no engine\n\n## 2." in outcome.text
    assert who.text == outcome.text
    assert [end.error for end in outcome.parts] == ["broken_stream", ""]


async def test_a_part_without_an_answer_is_told_with_the_first_that_has_one() -> None:
    who = await caller(fails("unavailable", "no engine"), fails("invalid", "no words", 1.0), says("x = 1", 2.0))
    outcome = await who.ask()
    assert who.text == outcome.text
    assert who.at("no engine") == who.at("no words") == who.at("x = 1")
    nobody = await caller(fails("unavailable"), fails("invalid"))
    with pytest.raises(QueryFailed, match="none of the 2 parts") as failure:
        await nobody.ask()
    assert (failure.value.kind, nobody.came) == ("unavailable", [])


async def test_without_any_whole_answer_it_has_broken_off() -> None:
    who = await caller(fails("invalid"), streams("two", then=fails("failed")))
    with pytest.raises(QueryFailed, match="none of the 2 parts") as failure:
        await who.ask()
    assert failure.value.kind == "broken_stream"
    assert failure.value.partial == who.text
    assert who.text.endswith("two")


async def test_what_is_answered_otherwise_than_it_was_streamed_stays_as_it_was_streamed() -> None:
    who = await caller(streams("one", then=says("1")), says("two"))
    outcome = await who.ask()
    assert who.text == outcome.text
    assert "one" in outcome.text


async def test_a_slow_caller_holds_back_the_one_that_it_hears() -> None:
    said: list[float] = []

    async def counting(call: Call, emit: Emit) -> str:
        for _ in range(5):
            said.append(asyncio.get_running_loop().time())
            await emit("x")
        return "xxxxx"

    who = await caller(counting, says("two"))
    who.pause_s = 10.0
    await who.ask(timeout_s=600)
    assert [later - earlier for earlier, later in itertools.pairwise(said)] == pytest.approx([10] * 4, abs=0.1)


@pytest.mark.parametrize("takes", [0, 1, 2])
@pytest.mark.parametrize("second", [hangs(), streams("three", then=hangs())])
async def test_a_caller_that_takes_no_more_ends_all_parts_at_once(takes: int, second: Work) -> None:
    who = await caller(streams("one", "two", "", "2", every_s=1.0), second, hangs())
    who.takes = takes
    with pytest.raises(ConnectionError):
        await who.ask(timeout_s=600)
    assert asyncio.get_running_loop().time() < 10
    assert [expert.cancelled for expert in who.node.experts.values()][-1] == 1
    facts = await who.node.facts("request-1")
    assert isinstance(facts[-1], RequestCancelled)
    assert who.node.state.attempts_in_flight() == 0


async def test_whole_waits_for_all() -> None:
    who = await caller(streams("one", then=fails("failed")), says("two", 3.0))
    who.node.offer(who.node.connect(9), "second", says("1"), domains=("mathematics",))
    for _ in range(4):
        outcome = await who.ask(delivery="whole")
        assert [end.error for end in outcome.parts] == ["", ""]
    assert len(who.came) == 4
