"""The life of a request, against experts that do as they are told."""

import asyncio
from typing import Any

import pytest

from mesh.config import RoutingConfig
from mesh.events.vocabulary.network import PeerConfirmedDown
from mesh.events.vocabulary.requests import (
    RequestAttemptFailed,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestReceived,
    RequestRejected,
)
from mesh.experts.queries import Query, QueryFailed, QueryRejected
from mesh.experts.requests import recover
from mesh.experts.state import fold
from tests.kit.asking import Asker, fails, hangs, says, streams

pytestmark = pytest.mark.looptime


async def test_a_local_expert_answers() -> None:
    node = await Asker().open()
    node.serve("echo", says("hello"))
    outcome = await node.requests.ask(Query(content="hi", domain="language"))
    assert (outcome.text, outcome.peers, outcome.expert, outcome.attempts) == ("hello", (node.id,), "echo", 1)
    assert await node.story(outcome.request) == ["received", "routed", "dispatched", "answered", "completed"]


async def test_fails_over_to_another_peer_and_excludes_the_one_tried() -> None:
    node = await Asker().open()
    bad, good = node.connect(2), node.connect(3)
    node.offer(bad, "a", fails("failed"), quality=1.0, in_flight=0)
    node.offer(good, "a", says("fine"), in_flight=60)
    outcome = await node.requests.ask(Query(content="hi", domain="language"))
    assert outcome.text == "fine"
    assert outcome.peers == (good,)
    assert outcome.failures == (f"{bad}/a: failed",)
    assert await node.story(outcome.request) == [
        "received",
        "routed",
        "dispatched",
        "attempt_failed",
        "routed",
        "dispatched",
        "answered",
        "completed",
    ]


async def test_what_nobody_else_could_do_either_is_not_tried_again() -> None:
    node = await Asker().open()
    for number in (2, 3):
        node.offer(node.connect(number), "a", fails("invalid", "not a formula"))
    with pytest.raises(QueryFailed, match="not a formula") as failure:
        await node.requests.ask(Query(content="hi", domain="language"))
    assert failure.value.kind == "invalid"
    assert (await node.story(failure.value.request)).count("dispatched") == 1


async def test_no_more_attempts_than_configured_and_then_this_nodes_own_expert() -> None:
    node = await Asker(config=RoutingConfig(attempts=2)).open()
    for number in (2, 3, 4):
        node.offer(node.connect(number), "a", fails("failed"), quality=1.0)
    node.serve("slow", says("own"))
    node.state.offers[node.id]["slow"].quality = 0.0
    node.state.tracks.clear()
    outcome = await node.requests.ask({"content": "hi", "domain": "language", "policy": "weighted"})
    assert outcome.text == "own"
    assert outcome.attempts == 3
    assert outcome.fallback == "local: after 2 failed"


async def test_only_this_node_left_is_said_to_be_a_fallback() -> None:
    node = await Asker().open()
    node.serve("own", says("own"))
    gone = node.connect(2)
    node.offer(gone, "a", says("never"))
    node.lose(gone)
    outcome = await node.requests.ask(Query(content="hi", domain="language"))
    assert outcome.fallback == "local: no other peer can be reached (1 offered it)"


async def test_local_only_asks_nobody_else() -> None:
    node = await Asker().open()
    other = node.offer(node.connect(2), "a", says("theirs"))
    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask(Query(content="hi", domain="language", strategy="local_only"))
    assert failure.value.kind == "no_candidates"
    assert "out_of_scope" in failure.value.message
    assert not other.asked


async def test_the_deadline_ends_a_request_and_shrinks_with_every_attempt() -> None:
    node = await Asker().open()
    late = node.offer(node.connect(2), "a", fails("failed", after_s=3.0), quality=1.0)
    hung = node.offer(node.connect(3), "a", hangs(), in_flight=60)
    started = node.clock.monotonic()
    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask(Query(content="hi", domain="language", timeout_s=5.0))
    assert failure.value.kind == "expired"
    assert node.clock.monotonic() - started == pytest.approx(5.0, abs=0.1)
    assert late.asked[0].timeout_ms == pytest.approx(5000, abs=5)
    assert hung.asked[0].timeout_ms == pytest.approx(2000, abs=5)
    assert hung.cancelled == 1


async def test_a_peer_that_is_lost_ends_the_wait_at_once() -> None:
    node = await Asker().open()
    dying = node.connect(2)
    hung = node.offer(dying, "a", hangs(), quality=1.0)
    node.offer(node.connect(3), "a", says("fine"), in_flight=60)
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language", timeout_s=60)))
    await asyncio.sleep(2)
    node.emit(PeerConfirmedDown(peer=dying, reason="silent", silent_s=2.0))
    outcome = await asking
    assert outcome.text == "fine"
    assert outcome.latency_ms == pytest.approx(2000, abs=100)
    assert outcome.failures == (f"{dying}/a: disconnected",)
    assert hung.cancelled == 1
    assert not node.requests._services.departures.waits


async def test_a_peer_that_was_lost_and_is_back_is_asked_again_at_once() -> None:
    """Though ten requests in a row had failed there, none of which was the expert's fault."""
    node = await Asker().open()
    lost, other = node.connect(2), node.connect(3)
    node.offer(lost, "a", hangs())
    asking = [asyncio.create_task(node.requests.ask(Query(content="hi", domain="language"))) for _ in range(10)]
    await asyncio.sleep(1)
    node.offer(other, "a", says("fine"))
    node.lose(lost)
    assert {(await each).text for each in asking} == {"fine"}
    assert node.connect(2) == lost
    node.offer(lost, "a", says("back", after_s=1))
    node.lose(other)
    asking = [asyncio.create_task(node.requests.ask(Query(content="hi", domain="language"))) for _ in range(10)]
    await asyncio.sleep(0.5)
    asking.pop().cancel()  # which is no failure either
    assert {(await each).text for each in asking} == {"back"}


async def test_pieces_pass_through_as_they_come() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", streams("one ", "two ", "three", every_s=1.0))
    seen: list[tuple[float, str]] = []

    async def emit(piece: str) -> None:
        seen.append((round(node.clock.monotonic() - started), piece))

    started = node.clock.monotonic()
    outcome = await node.requests.ask(Query(content="hi", domain="language"), emit)
    assert seen == [(1, "one "), (2, "two "), (3, "three")]
    assert outcome.text == "one two three"


async def test_a_stream_that_breaks_after_a_piece_does_not_start_again() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", streams("half of ", then=fails("disconnected")), quality=1.0)
    other = node.offer(node.connect(3), "a", says("whole"), in_flight=60)
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask(Query(content="hi", domain="language"), emit)
    assert (failure.value.kind, failure.value.partial) == ("broken_stream", "half of ")
    assert pieces == ["half of "]
    assert not other.asked


async def test_a_stream_that_breaks_before_its_first_piece_fails_over() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", streams(then=fails("disconnected")), quality=1.0)
    node.offer(node.connect(3), "a", streams("whole"), in_flight=60)
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    await node.requests.ask(Query(content="hi", domain="language"), emit)
    assert pieces == ["whole"]


async def test_whole_delivery_survives_a_broken_stream_and_hands_over_one_text() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", streams("half of ", then=fails("disconnected")), quality=1.0)
    node.offer(node.connect(3), "a", streams("who", "le"), in_flight=60)
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    outcome = await node.requests.ask(Query(content="hi", domain="language", delivery="whole"), emit)
    assert pieces == ["whole"]
    assert outcome.attempts == 2


async def test_an_answer_that_was_not_streamed_reaches_the_listener_all_the_same() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", says("all at once"))
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    await node.requests.ask(Query(content="hi", domain="language"), emit)
    assert pieces == ["all at once"]


async def test_a_caller_that_takes_no_more_cancels_its_request() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", streams("one", "two"))
    node.offer(node.connect(3), "a", streams("one", "two"))

    async def emit(piece: str) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError):
        await node.requests.ask(Query(content="hi", domain="language"), emit)
    assert await node.story("request-1") == ["received", "routed", "dispatched", "attempt_failed", "cancelled"]


async def test_a_cancelled_caller_leaves_one_cancelled_and_nothing_in_flight() -> None:
    node = await Asker().open()
    hung = node.offer(node.connect(2), "a", hangs())
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(1)
    assert node.requests.in_flight == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    facts = await node.facts("request-1")
    assert isinstance(facts[-2], RequestAttemptFailed)
    assert facts[-2].kind == "cancelled"
    assert facts[-1] == RequestCancelled(request="request-1", reason="the caller took it back", latency_ms=1000.0)
    assert (node.requests.in_flight, node.state.attempts_in_flight(), hung.cancelled) == (0, 0, 1)


async def test_a_caller_cancelled_before_anything_began_leaves_nothing() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", hangs())
    before = node.journal.position
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert node.journal.position == before
    assert node.requests.in_flight == 0


async def test_closing_cancels_what_runs_and_takes_nothing_more_in() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", hangs())
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(1)
    await node.requests.close("maintenance")
    with pytest.raises(QueryFailed, match="maintenance") as failure:
        await asking
    assert failure.value.kind == "cancelled"
    assert (await node.outcomes())["request-1"] == {"cancelled": 1}
    with pytest.raises(QueryRejected) as rejection:
        await node.requests.ask(Query(content="hi"))
    assert rejection.value.kind == "stopping"


async def test_closing_waits_for_an_answer_that_is_being_stored() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", says("fine"))
    await node.journal.stored()
    node.store.gate.clear()
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(1)
    closing = asyncio.create_task(node.requests.close())
    await asyncio.sleep(1)
    assert not closing.done()
    node.store.gate.set()
    await closing
    assert (await asking).text == "fine"
    assert (await node.outcomes())["request-1"] == {"completed": 1}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"content": ""}, "content"),
        ({"content": "x", "domain": "Not A Domain"}, "domain"),
        ({"content": "x", "strategy": "guess"}, "strategy"),
        ({"content": "x", "policy": "luck"}, "policy"),
        ({"content": "x", "timeout_s": -1}, "timeout_s"),
        ({"content": "x", "timeout_s": float("nan")}, "timeout_s"),
        ({"content": "x", "fan_out": 17}, "fan_out"),
        ({"content": "x", "colour": "red"}, "colour"),
        ({"content": "\ud800"}, "unicode"),
        ({"content": "x" * 101}, "101 bytes; routing.max_content_bytes is 100"),
        ({"content": "x", "options": {"a": "x" * 9000}}, "options"),
        ({"content": "x", "quorum": 2}, "quorum"),
        ({"content": "x", "strategy": "consensus", "fan_out": 3, "quorum": 4}, "quorum"),
    ],
)
async def test_bad_input_is_rejected_by_name_and_recorded(query: dict[str, Any], named: str) -> None:
    node = await Asker(config=RoutingConfig(max_content_bytes=100)).open()
    with pytest.raises(QueryRejected, match=named) as rejection:
        await node.requests.ask({**query, "caller": "test"})
    assert rejection.value.kind == "invalid"
    fact = (await node.facts(rejection.value.request))[0]
    assert isinstance(fact, RequestRejected)
    assert (fact.caller, fact.kind) == ("test", "invalid")
    assert await node.story(rejection.value.request) == ["rejected"]


async def test_too_many_at_once_are_rejected_as_overloaded() -> None:
    node = await Asker(config=RoutingConfig(max_in_flight=2)).open()
    node.offer(node.connect(2), "a", says("fine", after_s=1.0))
    asking = [asyncio.create_task(node.requests.ask(Query(content="hi", domain="language"))) for _ in range(3)]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Outcome", "Outcome", "QueryRejected"]
    assert outcomes[2].kind == "overloaded"


async def test_a_store_that_falls_behind_is_overload_too() -> None:
    node = await Asker(config=RoutingConfig(max_backlog=100)).open()
    node.offer(node.connect(2), "a", says("fine"))
    await node.journal.stored()
    node.store.gate.clear()
    for number in range(101):
        node.lose(f"nobody-{number}")
    with pytest.raises(QueryRejected, match="max_backlog is 100") as rejection:
        await node.requests.ask(Query(content="hi", domain="language"))
    assert rejection.value.kind == "overloaded"
    node.store.gate.set()


async def test_nothing_is_answered_before_its_trail_is_stored() -> None:
    """Law 2."""
    node = await Asker().open()
    node.serve("echo", says("hello"))
    await node.journal.stored()
    node.store.gate.clear()
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(30)
    assert node.state.requests == {}
    assert not asking.done()
    node.store.gate.set()
    outcome = await asking
    completed = [event for event in await node.events() if isinstance(event.fact, RequestCompleted)]
    assert completed[0].correlation == outcome.request
    assert node.journal.stored_position >= completed[0].position


async def test_no_failure_is_told_before_its_trail_is_stored_either() -> None:
    node = await Asker().open()
    await node.journal.stored()
    node.store.gate.clear()
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(30)
    assert not asking.done()
    node.store.gate.set()
    with pytest.raises(QueryFailed, match="nobody offers it"):
        await asking
    assert isinstance((await node.facts("request-1"))[-1], RequestFailed)


async def test_content_is_kept_only_where_the_policy_says_so() -> None:
    for policy, kept in (("digest", ("", "")), ("full", ("secret?", "secret!"))):
        node = await Asker(config=RoutingConfig(content=policy)).open()
        node.serve("echo", says("secret!"))
        await node.requests.ask(Query(content="secret?", domain="language"))
        facts = await node.facts("request-1")
        assert isinstance(facts[0], RequestReceived)
        assert isinstance(facts[-1], RequestCompleted)
        assert (facts[0].content, facts[-1].answer) == kept
        stored = b"".join(record.payload for record in node.store.records)
        assert (b"secret" in stored) == (policy == "full")


async def test_a_restart_interrupts_what_was_open_once() -> None:
    node = await Asker().open()
    node.offer(node.connect(2), "a", hangs())
    asking = asyncio.create_task(node.requests.ask(Query(content="hi", domain="language")))
    await asyncio.sleep(1)
    await node.journal.stored()
    records = list(node.store.records)  # what a crash here would leave
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    reborn = await Asker(records=records).open()
    assert reborn.state.in_flight() == ("request-1",)
    assert reborn.state.attempts_in_flight() == 0
    assert recover(reborn.state, reborn.journal) == 1
    assert recover(reborn.state, reborn.journal) == 0
    assert await reborn.outcomes() == {"request-1": {"interrupted": 1}}
    assert fold(reborn.id, await reborn.events()).digest() == reborn.state.digest()


async def test_an_expert_that_raises_anything_is_one_failed_attempt() -> None:
    async def broken(call: Any, emit: Any) -> str:
        raise RuntimeError("bug \ud800")

    node = await Asker().open()
    node.offer(node.connect(2), "a", broken, quality=1.0)
    node.offer(node.connect(3), "a", says("\ud800"), in_flight=30)
    node.offer(node.connect(4), "a", says("fine"), in_flight=60)
    outcome = await node.requests.ask(Query(content="hi", domain="language", policy="weighted"))
    assert outcome.text == "fine"
    assert [failure.rpartition(" ")[2] for failure in outcome.failures] == ["failed", "failed"]


async def test_an_expert_is_asked_in_a_domain_that_it_serves() -> None:
    node = await Asker().open()
    serving = node.offer(node.connect(2), "calc", says("4"), domains=("mathematics", "reasoning"))
    await node.requests.ask(Query(content="write a poem", expert="calc"))
    assert serving.asked[0].domain == "mathematics"
    with pytest.raises(QueryFailed):
        await node.requests.ask(Query(content="write a poem", expert="calc", domain="coding"))


async def test_a_pinned_peer_is_the_only_one_asked() -> None:
    node = await Asker().open()
    wanted, other = node.connect(2), node.connect(3)
    node.offer(wanted, "a", fails("failed"))
    spared = node.offer(other, "a", says("fine"))
    with pytest.raises(QueryFailed, match="as told"):
        await node.requests.ask(Query(content="hi", domain="language", peer=wanted))
    assert not spared.asked


@pytest.mark.parametrize(
    ("content", "domain"),
    [
        ("What is 12 * 7 + 1?", "mathematics"),
        ("Fix this: def f(x): return x", "coding"),
        ("convert 5 miles to km", "tool_use"),
        ("Translate this letter into French", "language"),
        ("hm", "language"),
    ],
)
async def test_auto_guesses_the_domain_and_records_how(content: str, domain: str) -> None:
    node = await Asker().open()
    node.serve("all", says("x"), domains=("mathematics", "coding", "tool_use", "language", "reasoning", "context"))
    outcome = await node.requests.ask(Query(content=content))
    assert outcome.domain == domain
