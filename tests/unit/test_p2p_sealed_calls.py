"""Sealed calls between nodes over the memory overlay, and against an end that a test holds in its hands."""

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest

from mesh.config import OverlayConfig
from mesh.errors import PeerMisbehaved
from mesh.identity import Identity
from mesh.p2p import messages
from mesh.p2p.calls import CallFailed, InboundCall, Reply
from mesh.p2p.cover import MAX_BYTES, jitter, next_cover
from mesh.p2p.frames import Frame, Kind
from mesh.p2p.memory_link import memory_stream
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.messages import RequestHead, ResultHead
from mesh.p2p.overlay_memory import MemoryOverlay
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.sealing import Seals, agree, padded_size, stream_key
from mesh.p2p.tasks import TaskOwner
from tests.kit.loop_clock import LoopClock
from tests.kit.peer_nodes import PeerNode, echo, introduce, until
from tests.kit.wire_pair import RawEnd, answering, asking, hello

pytestmark = pytest.mark.looptime

US, THEM = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
SECRET = b"nobody else may read this"


def settings(seal: str, **more: float) -> OverlayConfig:
    return OverlayConfig(seal=seal, redial_min_s=0.2, **more)


@asynccontextmanager
async def two(ours: OverlayConfig, theirs: OverlayConfig):
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        made = []
        for identity, config in ((US, ours), (THEM, theirs)):
            overlay = MemoryOverlay(network, identity.peer_id)
            made.append(PeerNode(identity.peer_id, overlay, LoopClock(), config, identity=identity))
            await made[-1].start()
            stack.push_async_callback(made[-1].stop)
        introduce(*made)
        yield made


async def talk(call: InboundCall) -> Reply:
    for size in (1, 40_000, 100_000):
        await call.send(call.body[:size])
    return Reply({"method": call.method, "left": call.timeout_s > 0}, b"the end")


async def refuse(call: InboundCall) -> Reply:
    raise CallFailed("overloaded", "not now", retryable=True)


@pytest.mark.parametrize("modes", [("prefer", "prefer"), ("require", "prefer"), ("require", "require")])
async def test_whatever_can_be_called_can_be_called_sealed(modes):
    async with two(settings(modes[0]), settings(modes[1])) as (one, other):
        other.peers.serve("talk", talk)
        other.peers.serve("refuse", refuse)
        await until(lambda: one.peers.connected() and other.peers.connected())
        assert one.peers._links[other.peer_id].calling.sealed is not None
        for size in (0, 100, 5000, 70_000, 1 << 20):
            body = random.Random(size).randbytes(size)
            reply = await one.peers.call(other.peer_id, "echo", {"é": [1]}, body, timeout=9)
            assert reply == Reply({"é": [1]}, body)
        pieces: list[bytes] = []

        async def take(piece: bytes) -> None:
            pieces.append(piece)

        body = random.Random(1).randbytes(100_000)
        said = body[:1] + body[:40_000] + body
        reply = await one.peers.call(other.peer_id, "talk", {}, body, timeout=9, on_chunk=take)
        assert (b"".join(pieces), reply) == (said, Reply({"method": "talk", "left": True}, b"the end"))
        assert (await one.peers.call(other.peer_id, "talk", {}, body, timeout=9)).body == said + b"the end"
        for method, kind in (("refuse", "overloaded"), ("nothing", "unknown_method")):
            with pytest.raises(CallFailed) as caught:
                await one.peers.call(other.peer_id, method, {}, b"", timeout=9)
            assert (caught.value.kind, caught.value.retryable) == (kind, True)
        assert not one.of("peer.misbehaved") + other.of("peer.misbehaved")


async def test_a_peer_that_does_not_seal_is_called_in_the_clear_or_refused():
    async with two(settings("prefer"), settings("off")) as (one, other):
        await until(lambda: one.peers.connected() and other.peers.connected())
        assert (await one.peers.call(other.peer_id, "echo", {}, b"x", timeout=9)).body == b"x"
        assert (await other.peers.call(one.peer_id, "echo", {}, b"x", timeout=9)).body == b"x"
    async with two(settings("require"), settings("off")) as (one, other):
        await until(lambda: one.of("peer.refused"))
        assert {(fact.rule, fact.limit, fact.value) for fact in one.of("peer.refused")} == {("seal", "require", "off")}
        await asyncio.sleep(1)
        assert not one.peers.connected()


async def test_where_sealing_is_required_nothing_is_answered_that_is_not_sealed():
    async with two(settings("require"), settings("prefer")) as (one, other):
        await until(lambda: one.peers.connected() and other.peers.connected())
        calling = other.peers._links[one.peer_id].calling
        with pytest.raises(CallFailed) as caught:
            await calling.call("echo", {}, b"", 5, None)
        assert caught.value.kind == "unknown_method"


class Raw(NamedTuple):
    """The other side of a stream in the hands of a test, with the keys to it."""

    end: RawEnd
    session: object
    seals: Seals
    faults: list[PeerMisbehaved]


@asynccontextmanager
async def raw(*, opener: bool):
    """``opener``: whether the side that is tested is the one that asks."""
    near, far = memory_stream()
    faults: list[PeerMisbehaved] = []
    tasks = TaskOwner()
    stream = Sealing(US, settings("require"), LoopClock(), random.Random(1), tasks).begin(hello())
    key = stream_key(b"\x33" * 32)
    if opener:
        session = asking(near, stream.hello, on_fault=faults.append)
        make = session._make_end

        def begin(theirs, wire):
            calling = make(theirs, wire)
            calling.sealed = stream.calls(calling, theirs, THEM.peer_id, faults.append)
            return calling

        session._make_end = begin
    else:
        session = answering(near, stream.hello, {}, on_fault=faults.append)
        make = session._make_end

        def begin(theirs, wire):
            serving = make(theirs, wire)
            serving._handlers = stream.handlers({"echo": echo}, theirs, THEM.peer_id)
            return serving

        session._make_end = begin
    run = asyncio.create_task(session.run())
    end = RawEnd(far)
    end.write(messages.hello(hello().model_copy(update={"seal": key.public.hex()})))
    (frame,) = await end.expect(Kind.HELLO)
    greeting = messages.parse(messages.Hello, frame.body, 4096)
    await until(lambda: session.usable)
    try:
        yield Raw(end, session, agree(THEM, key, US.peer_id, greeting.seal, opener=not opener), faults)
    finally:
        run.cancel()
        await asyncio.wait([run])
        if opener:
            session.end.close("over")
        else:
            await session.end.close()
        far.writer.close()
        await asyncio.sleep(0.1)


def request(seals: Seals, call: int, body: bytes = SECRET, number: int | None = None) -> bytes:
    """A sealed request as it is on the wire; ``number`` is the call's that it is sealed for."""
    content = messages.sealed_content({"method": "echo", "header": {}}, body)
    record = seals.sealer("request", number or call).seal(content, last=True)
    return sent(call, len(record).to_bytes(4, "big") + record)


def sent(call: int, parcel: bytes) -> bytes:
    return messages.with_head(Kind.REQUEST, call, messages.request_head("sealed", 5000, {}, len(parcel)), parcel)


async def test_on_the_wire_there_is_nothing_to_be_read_but_a_size():
    async with raw(opener=True) as (end, session, seals, _):
        call = asyncio.create_task(session.end.sealed.call("echo", {"token": "hidden-header"}, SECRET, 5, None))
        (frame,) = await end.expect(Kind.REQUEST)
        head, parcel = messages.parse_head(RequestHead, frame.body)
        assert (head.method, head.header) == ("sealed", {})
        assert all(word not in frame.body for word in (b"hidden-header", SECRET, b"echo"))
        assert len(parcel) == 4 + padded_size(len(parcel) - 4)
        plain = seals.sealer("request", frame.call).open(parcel[4:], last=True)
        assert plain.endswith(SECRET)
        end.write(
            messages.with_head(
                Kind.RESULT, frame.call, messages.result_head({}, *answer(seals, frame)[:1]), answer(seals, frame)[1]
            )
        )
        assert await call == Reply({"n": 1}, b"answer")


def answer(seals: Seals, frame: Frame, *, last: bool = True) -> tuple[int, bytes]:
    content = messages.sealed_content({"header": {"n": 1}}, b"answer")
    record = seals.sealer("answer", frame.call).seal(content, last=last)
    parcel = len(record).to_bytes(4, "big") + record
    return len(parcel), parcel


async def failure(end: RawEnd, session, reply) -> CallFailed:
    call = asyncio.create_task(session.end.sealed.call("echo", {}, SECRET, 5, None))
    (frame,) = await end.expect(Kind.REQUEST)
    reply(frame)
    with pytest.raises(CallFailed) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("lie", ["junk", "empty", "cut", "longer", "not last", "another call's", "a chunk too much"])
async def test_an_answer_that_does_not_open_is_the_peers_fault(lie):
    async with raw(opener=True) as (end, session, seals, faults):

        def reply(frame: Frame) -> None:
            _, parcel = answer(seals, frame, last=lie != "not last")
            if lie == "another call's":
                _, parcel = answer(seals, frame._replace(call=frame.call + 1))
            if lie == "a chunk too much":
                end.say(Kind.CHUNK, frame.call, bytes(300))
            said = {"junk": bytes(300), "empty": b"", "cut": parcel[:-1], "longer": parcel + b"x"}.get(lie, parcel)
            end.write(messages.with_head(Kind.RESULT, frame.call, messages.result_head({}, len(said)), said))

        failed = await failure(end, session, reply)
        assert (failed.kind, [fault.rule for fault in faults]) == ("protocol", ["seal"])


async def test_a_request_is_answered_once_and_sealed():
    async with raw(opener=False) as (end, _, seals, faults):
        end.write(request(seals, 1))
        (frame,) = await end.expect(Kind.RESULT)
        _, parcel = messages.parse_head(ResultHead, frame.body)
        assert SECRET not in frame.body
        assert seals.sealer("answer", 1).open(parcel[4:], last=True).endswith(SECRET)
        end.write(request(seals, 2, number=1))  # the same bytes once more, under the next number
        (frame,) = await end.expect(Kind.ERROR)
        assert (frame.call, [fault.rule for fault in faults]) == (2, ["seal"])


@pytest.mark.parametrize(
    "parcel", [b"", b"\0", b"\0\0\0\5", b"\xff" * 300, bytes(300), (256).to_bytes(4, "big") + bytes(256)]
)
async def test_a_request_that_does_not_open_is_the_peers_fault(parcel):
    async with raw(opener=False) as (end, _, _, faults):
        end.write(sent(1, parcel))
        (frame,) = await end.expect(Kind.ERROR)
        assert messages.parse(messages.ErrorBody, frame.body, 4096).kind == "protocol"
        assert [fault.rule for fault in faults] == ["seal"]


async def test_a_fault_that_shows_late_ends_the_connection_and_is_recorded():
    async with two(settings("prefer"), settings("prefer")) as (one, other):
        await until(lambda: one.peers.connected() and other.peers.connected())
        calling = one.peers._links[other.peer_id].calling
        with pytest.raises(CallFailed):
            await calling.call("sealed", {}, bytes(300), 5, None)
        await until(lambda: other.of("peer.misbehaved"))
        assert [fact.rule for fact in other.of("peer.misbehaved")] == ["seal"]
        await until(lambda: one.of("peer.disconnected"))


async def test_calls_that_mean_nothing_are_made_at_the_rate_that_was_set():
    async with two(settings("prefer", seal_cover_per_s=5.0), settings("prefer")) as (one, other):
        await until(lambda: one.peers.connected() and other.peers.connected())
        calling = one.peers._links[other.peer_id].calling
        await asyncio.sleep(60)
        assert 200 <= calling.next_call <= 400
        assert not other.of("peer.misbehaved")


async def test_calls_wait_for_a_time_that_says_nothing():
    async with two(settings("prefer", seal_jitter_ms=500.0), settings("prefer", seal_jitter_ms=500.0)) as (one, other):
        await until(lambda: one.peers.connected() and other.peers.connected())
        loop, took = asyncio.get_running_loop(), []
        for _ in range(20):
            began = loop.time()
            await one.peers.call(other.peer_id, "echo", {}, b"", timeout=9)
            took.append(loop.time() - began)
        assert max(took) < 1.1
        assert max(took) - min(took) > 0.3


def test_cover_follows_from_its_seed_and_its_rate():
    plans = [[next_cover(random.Random(seed), 2.0) for _ in range(3)] for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    rng = random.Random(3)
    many = [next_cover(rng, 4.0) for _ in range(4000)]
    assert sum(cover.wait_s for cover in many) == pytest.approx(1000, rel=0.05)
    assert max(cover.wait_s for cover in many) <= 2.0
    assert all(0 < size <= MAX_BYTES for cover in many for size in (cover.request_bytes, cover.answer_bytes))
    assert jitter(rng, 0) == 0
    assert 0 <= jitter(rng, 0.2) <= 0.2
