"""expert.ask between two nodes, and what becomes of a peer that breaks its rules."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import PeerMisbehaved
from mesh.events.envelope import Event
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.network import PeerMisbehaved as Misbehaved
from mesh.events.vocabulary.requests import RequestServed
from mesh.experts.answers import digest, sign_answer
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.remote import RemoteExperts, serve_experts
from mesh.experts.wire import MAX_ANSWER_BYTES, MAX_CHUNK_BYTES, TextJoiner, chunks_of
from mesh.p2p.calls import CallFailed, InboundCall, OnChunk, Reply
from mesh.p2p.memory_network import MemoryNetwork
from tests.kit.asking import Work, fails, hangs, identity, says, streams
from tests.kit.loop_clock import LoopClock
from tests.kit.whole_nodes import WholeNode, expert, meet

pytestmark = pytest.mark.looptime

PEER = identity(2)


def call(**changes: Any) -> Call:
    fields: dict[str, Any] = {
        "request": "r-1",
        "expert": "a",
        "domain": "language",
        "content": "grüezi 👋",
        "timeout_ms": 5000,
    }
    return Call(**{**fields, **changes})


class Inbound(InboundCall):
    def __init__(self, header: Mapping[str, Any], body: bytes, timeout_s: float, on_chunk: OnChunk | None) -> None:
        super().__init__("caller", "expert.ask", header, body, timeout_s)
        self.on_chunk = on_chunk
        self.sent: list[bytes] = []

    async def send(self, chunk: bytes) -> None:
        self.sent.append(chunk)
        if self.on_chunk is not None:
            await self.on_chunk(chunk)


class Line:
    """Both ends of a call between peers, in one object; without chunks asked for they lead the body."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[InboundCall], Awaitable[Reply]]] = {}
        self.tamper: Callable[[Reply], Reply] = lambda reply: reply
        self.inbound: list[Inbound] = []

    def serve(self, method: str, handler: Callable[[InboundCall], Awaitable[Reply]]) -> None:
        self.handlers[method] = handler

    async def call(
        self,
        peer: str,
        method: str,
        header: Mapping[str, Any],
        body: bytes,
        *,
        timeout: float,
        on_chunk: OnChunk | None = None,
    ) -> Reply:
        inbound = Inbound(header, body, timeout, on_chunk)
        self.inbound.append(inbound)
        reply = self.tamper(await self.handlers[method](inbound))
        if on_chunk is None:
            return Reply(reply.header, b"".join(inbound.sent) + reply.body)
        return reply


class Signing:
    """A node's experts, as far as remote asking sees them."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.asked: list[tuple[Call, str]] = []

    async def ask(self, call: Call, emit: Emit, *, caller: str) -> Answer:
        self.asked.append((call, caller))
        text = await self.work(call, emit)
        signature = sign_answer(PEER, request=call.request, expert=call.expert, model="m", digest=digest(text))
        return Answer(
            text=text, model="m", tokens_in=3, tokens_out=4, first_token_ms=1.5, latency_ms=2.5, signature=signature
        )

    def offers(self) -> list[Any]:
        return []


class Ends:
    def __init__(self, work: Work) -> None:
        self.line = Line()
        self.serving = Signing(work)
        serve_experts(self.line, self.serving)
        self.journal = Journal("me", MemoryEventStore("me"), LoopClock())
        self.events: list[Event] = []
        self.journal.listen(self.events.append)
        self.remote = RemoteExperts(self.line, self.journal)
        self.pieces: list[str] = []

    async def piece(self, text: str) -> None:
        self.pieces.append(text)

    async def ask(self, stream: bool = False, **changes: Any) -> Answer:
        return await self.remote.ask(PEER.peer_id, call(**changes), self.piece if stream else None)


async def test_an_answer_comes_back_as_it_was_given() -> None:
    ends = Ends(says("Grüße 👋"))
    answer = await ends.ask(options={"temperature": 0.5})
    assert (answer.text, answer.model, answer.tokens_in, answer.tokens_out) == ("Grüße 👋", "m", 3, 4)
    assert (answer.first_token_ms, answer.latency_ms) == (1.5, 2.5)
    asked, caller = ends.serving.asked[0]
    assert (asked.content, asked.options, caller) == ("grüezi 👋", {"temperature": 0.5}, "caller")


@pytest.mark.parametrize("stream", [True, False])
async def test_streamed_pieces_are_the_answer(stream: bool) -> None:
    ends = Ends(streams("Grü", "ße ", "👋" * 20_000))
    answer = await ends.ask(stream)
    assert answer.text == "Grüße " + "👋" * 20_000
    assert "".join(ends.pieces) == (answer.text if stream else "")
    assert bool(ends.line.inbound[0].sent) == stream


async def test_an_expert_may_stream_something_else_than_it_answers() -> None:
    for stream in (True, False):
        ends = Ends(streams("thinking…", then=says("4")))
        assert (await ends.ask(stream)).text == "4"
    ends = Ends(streams("4", then=says("4, surely")))
    assert (await ends.ask(stream=True)).text == "4, surely"


@pytest.mark.parametrize("kind", ["overloaded", "unknown_expert", "invalid", "unavailable", "failed"])
async def test_failures_keep_their_kind(kind: str) -> None:
    with pytest.raises(AttemptFailed, match="as told") as failure:
        await Ends(fails(kind)).ask()
    assert failure.value.kind == kind


async def test_a_kind_that_nobody_knows_is_a_failure() -> None:
    ends = Ends(says("x"))

    async def strange(_call: InboundCall) -> Reply:
        raise CallFailed("unknown_method", "what?", retryable=True)

    ends.line.handlers["expert.ask"] = strange
    with pytest.raises(AttemptFailed, match="unknown_method") as failure:
        await ends.ask()
    assert (failure.value.kind, failure.value.retryable) == ("failed", True)


async def test_a_peer_has_no_veto_on_asking_others() -> None:
    ends = Ends(says("x"))

    async def crashed(_call: InboundCall) -> Reply:
        raise CallFailed("failed", "TypeError in the handler", retryable=False)

    ends.line.handlers["expert.ask"] = crashed
    with pytest.raises(AttemptFailed) as failure:
        await ends.ask()
    assert failure.value.retryable


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"digest": "0" * 64}, "answer_digest"),
        ({"digest": "zz"}, "answer_malformed"),
        ({"signature": "0" * 128}, "answer_signature"),
        ({"signature": ""}, "answer_malformed"),
        ({"model": "another"}, "answer_signature"),
        ({"latency_ms": "soon"}, "answer_malformed"),
        ({"latency_ms": float("inf")}, "answer_malformed"),
        ({"tokens_out": -7}, "answer_malformed"),
        ({"skip_bytes": 1}, "answer_not_utf8"),
        ({"skip_bytes": -1}, "answer_malformed"),
        ({"digest": None}, "answer_malformed"),
    ],
)
async def test_an_answer_that_does_not_hold_is_refused_and_recorded(change: dict[str, Any], rule: str) -> None:
    ends = Ends(says("é"))
    ends.line.tamper = lambda reply: Reply({**reply.header, **change}, reply.body)
    with pytest.raises(AttemptFailed) as failure:
        await ends.ask()
    assert (failure.value.kind, failure.value.retryable) == ("protocol", True)
    fact = ends.events[0].fact
    assert isinstance(fact, Misbehaved)
    assert (fact.peer, fact.rule, ends.events[0].correlation) == (PEER.peer_id, rule, "r-1")


async def test_an_answer_of_another_request_is_refused() -> None:
    ends = Ends(says("4"))
    first: list[Reply] = []
    ends.line.tamper = lambda reply: first.append(reply) or first[0]
    await ends.ask()
    with pytest.raises(AttemptFailed, match="signature"):
        await ends.ask(request="r-2")


@pytest.mark.parametrize("body", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
async def test_an_answer_that_is_not_utf8_is_refused(body: bytes) -> None:
    ends = Ends(says("x"))
    ends.line.tamper = lambda reply: Reply(reply.header, body)
    with pytest.raises(AttemptFailed, match="UTF-8"):
        await ends.ask()


@pytest.mark.parametrize(
    ("header", "body", "named"),
    [
        ({"expert": "../etc"}, b"x", "expert"),
        ({"request": "r" * 65}, b"x", "request"),
        ({"request": "a\nb"}, b"x", "request"),
        ({"domain": ""}, b"x", "domain"),
        ({"stream": "yes"}, b"x", "stream"),
        ({"options": {"a": "x" * 10_000}}, b"x", "options"),
        ({}, b"\xff", "UTF-8"),
        ({}, b"", "empty"),
    ],
)
async def test_a_bad_request_of_a_peer_is_refused_as_invalid(header: dict[str, Any], body: bytes, named: str) -> None:
    ends = Ends(says("x"))
    good = {"request": "r", "expert": "a", "domain": "language"}
    with pytest.raises(CallFailed, match=named) as failure:
        await ends.line.call("p", "expert.ask", {**good, **header}, body, timeout=1.0)
    assert (failure.value.kind, failure.value.retryable) == ("invalid", False)
    assert not ends.serving.asked


@given(st.text(max_size=300), st.lists(st.integers(0, 1200), max_size=8))
def test_text_split_anywhere_comes_together_again(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    joiner = TextJoiner()
    pieces = [joiner.add(data[start:end]) for start, end in pairwise(edges)]
    pieces.append(joiner.add(b"", last=True))
    assert "".join(pieces) == joiner.whole(0) == text


@given(st.binary(max_size=200))
def test_random_bytes_are_text_or_the_peers_fault(data: bytes) -> None:
    joiner = TextJoiner()
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(PeerMisbehaved):
            joiner.add(data, last=True)
    else:
        assert joiner.add(data, last=True).encode() == data


def test_chunks_and_answers_are_bounded() -> None:
    assert max(map(len, chunks_of("é" * 50_000))) == MAX_CHUNK_BYTES
    joiner = TextJoiner()
    joiner.add(bytes(MAX_ANSWER_BYTES))
    with pytest.raises(PeerMisbehaved, match="more than"):
        joiner.add(b"x")


async def test_between_two_nodes_over_real_peers() -> None:
    network = MemoryNetwork(latency_s=0.005)
    one = WholeNode(network, 1, {})
    other = WholeNode(
        network, 2, {"a": streams("Grü", "ezi ", "👋" * 30_000), "slow": hangs()}, configs=[expert("a"), expert("slow")]
    )
    nodes = [await one.start(), await other.start()]
    try:
        await meet(*nodes)
        pieces: list[str] = []

        async def piece(text: str) -> None:
            pieces.append(text)

        outcome = await one.requests.ask({"content": "hi", "expert": "a"}, piece)
        assert outcome.text == "".join(pieces) == "Grüezi " + "👋" * 30_000
        assert (outcome.peers, outcome.model) == ((other.id,), "told 1")
        served = [event.fact for event in await other.events() if isinstance(event.fact, RequestServed)]
        assert [(fact.caller, fact.outcome, fact.request) for fact in served] == [(one.id, "answered", outcome.request)]

        asking = asyncio.create_task(one.requests.ask({"content": "hi", "expert": "slow"}))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(1)
        served = [event.fact for event in await other.events() if isinstance(event.fact, RequestServed)]
        assert served[-1].outcome == "cancelled"
    finally:
        for node in nodes:
            await node.stop()
