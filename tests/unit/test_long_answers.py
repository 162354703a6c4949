"""Answers that are asked for in pieces: they go by, are held nowhere, and still are signed, checked and recorded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mesh.config import CacheConfig, RoutingConfig
from mesh.events.vocabulary.requests import (
    RequestAnswered,
    RequestAttemptFailed,
    RequestCompleted,
    RequestReceived,
    RequestServed,
)
from mesh.experts.answers import digest
from mesh.experts.backends.pieces import MAX_ANSWER as MOST_OF_A_PROGRAM
from mesh.experts.backends.pieces import Pieces
from mesh.experts.cache import AnswerCache
from mesh.experts.calls import AttemptFailed, Call, Emit
from mesh.experts.plan import make_plan
from mesh.experts.queries import Outcome, Query, QueryFailed, QueryRejected
from mesh.experts.serving import MAX_ANSWER
from mesh.experts.state import RoutingState
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.asking import Work, fails, says, streams
from tests.kit.whole_nodes import WholeNode, meet

pytestmark = pytest.mark.looptime

PIECE = "grüezi 👋 " * 4096


def pours(pieces: int, then: str = "") -> Work:
    """Streams so much, and answers ``then``, as one who holds nothing."""

    async def work(_call: Call, emit: Emit) -> str:
        for _ in range(pieces):
            await emit(PIECE)
        await asyncio.sleep(1 if then else 0)
        return then

    return work


@asynccontextmanager
async def two(**works: Work) -> AsyncIterator[tuple[WholeNode, WholeNode]]:
    network = MemoryNetwork(latency_s=0.001)
    one, other = WholeNode(network, 1, {}), WholeNode(network, 2, works)
    nodes = [await one.start(), await other.start()]
    try:
        await meet(*nodes)
        yield one, other
    finally:
        for node in nodes:
            await node.stop()


async def asked(node: WholeNode, expert: str, **query: Any) -> tuple[Outcome, list[str]]:
    pieces: list[str] = []

    async def piece(text: str) -> None:
        pieces.append(text)

    outcome = await node.requests.ask({"content": "hi", "expert": expert, "delivery": "pieces", **query}, piece)
    return outcome, pieces


async def facts(node: WholeNode, kind: type) -> list[Any]:
    return [event.fact for event in await node.events() if isinstance(event.fact, kind)]


async def test_an_answer_longer_than_any_that_is_held_goes_by_signed_and_recorded() -> None:
    count = MAX_ANSWER // len(PIECE) + 10
    async with two(long=pours(count)) as (one, other):
        outcome, pieces = await asked(one, "long")
        text = "".join(pieces)
        assert len(text.encode()) > MAX_ANSWER
        assert (outcome.text, outcome.digest) == ("", digest(text))
        told = (outcome.digest, len(text.encode()))
        for node, kind in ((one, RequestAnswered), (one, RequestCompleted), (other, RequestServed)):
            (fact,) = await facts(node, kind)
            assert (fact.answer_digest, fact.answer_bytes) == told
        with pytest.raises(QueryFailed, match="the limit is"):
            await one.requests.ask({"content": "hi", "expert": "long"})


async def test_of_an_own_expert_too() -> None:
    async with two(long=pours(3)) as (_, other):
        outcome, pieces = await asked(other, "long")
        assert "".join(pieces) == PIECE * 3
        assert (outcome.text, outcome.digest) == ("", digest(PIECE * 3))


@pytest.mark.parametrize("here", [True, False])
async def test_what_is_not_streamed_is_one_piece(here: bool) -> None:
    async with two(short=says("all at once")) as (one, other):
        outcome, pieces = await asked(other if here else one, "short")
        assert pieces == ["all at once"]
        assert (outcome.text, outcome.digest) == ("", digest("all at once"))


async def test_an_expert_that_holds_its_text_itself_changes_nothing() -> None:
    async with two(holds=streams("one ", "two")) as (one, _):
        outcome, pieces = await asked(one, "holds")
        assert ("".join(pieces), outcome.digest) == ("one two", digest("one two"))


async def test_an_expert_that_answers_something_else_than_it_streamed_has_failed() -> None:
    async with two(fickle=pours(1, then="something else")) as (one, other):
        with pytest.raises(QueryFailed, match="something else") as failure:
            await asked(one, "fickle")
        assert failure.value.kind == "broken_stream"
        (served,) = await facts(other, RequestServed)
        assert served.outcome == "failed"


async def test_what_breaks_off_is_told_by_its_length() -> None:
    async with two(breaks=streams("half of ", then=fails("failed", "broke", after_s=1))) as (one, _):
        with pytest.raises(QueryFailed, match="after 8 characters: broke") as failure:
            await asked(one, "breaks")
        assert (failure.value.kind, failure.value.partial) == ("broken_stream", "")
        (failed,) = await facts(one, RequestAttemptFailed)
        assert not failed.retryable


@pytest.mark.parametrize(
    "contradiction",
    [
        {"strategy": "consensus"},
        {"strategy": "distributed"},
        {"cache": "on"},
        {"task": "embed", "content": '["a"]'},
        {"chat": {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]}},
    ],
)
async def test_what_needs_the_whole_answer_is_refused(contradiction: dict[str, Any]) -> None:
    async with two(long=pours(1)) as (one, _):
        with pytest.raises(QueryRejected, match="holds the whole answer nowhere"):
            await asked(one, "long", **contradiction)
        assert not await facts(one, RequestReceived)


async def test_somebody_has_to_take_the_pieces() -> None:
    async with two(long=pours(1)) as (one, _):
        with pytest.raises(QueryRejected, match="nobody takes the pieces"):
            await one.requests.ask({"content": "hi", "expert": "long", "delivery": "pieces"})


async def test_the_cache_has_no_part_in_it() -> None:
    cache = AnswerCache(CacheConfig(mode="all"), lambda: 0.0)
    held = make_plan("r", Query(content="hi", domain="language"), RoutingConfig(), RoutingState("me"))
    passing = make_plan(
        "s", Query(content="hi", domain="language", delivery="pieces"), RoutingConfig(), RoutingState("me")
    )
    async with cache.turn(held, 1.0), cache.turn(passing, 1.0) as turn:  # else it would wait for the first
        assert turn.kept is None


async def test_what_was_passed_on_is_not_said_again() -> None:
    async with two(long=pours(2)) as (one, other):
        outcome, _ = await asked(one, "long")
        again = Call(request=outcome.request, expert="long", domain="language", content="hi", timeout_ms=1000)

        async def nowhere(_text: str) -> None: ...

        with pytest.raises(AttemptFailed, match="answered before"):
            await other.experts.ask(again, nowhere, caller=one.id)


@pytest.mark.parametrize("held", [True, False])
async def test_pieces_are_kept_where_the_call_is_held(held: bool) -> None:
    heard: list[str] = []

    async def emit(text: str) -> None:
        heard.append(text)

    call = Call(request="r", expert="e", domain="d", content="", timeout_ms=1, held=held)
    pieces = Pieces(emit, call)
    await pieces.add("a")
    await pieces.add("b")
    assert (pieces.text, heard) == ("ab" if held else "", ["a", "b"])
    if held:
        with pytest.raises(AttemptFailed, match="limit"):
            await pieces.add("x" * MOST_OF_A_PROGRAM)
    else:
        await pieces.add("x" * MOST_OF_A_PROGRAM)
