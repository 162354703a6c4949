"""Compressed bodies: what is packed, what comes back, and what a peer may not claim."""

import asyncio
import random
import tracemalloc

import pytest
import zstandard

from mesh.errors import PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.calls import CallFailed, InboundCall, Reply
from mesh.p2p.credit import Budget
from mesh.p2p.frames import Kind
from mesh.p2p.memory_link import memory_stream
from mesh.p2p.packing import packed, unpack, unpacked
from tests.kit.peer_nodes import echo, until
from tests.kit.wire_pair import RawEnd, answering, asking, hello, pair

OVER = 1000
TEXT = b"the same words again and again; " * 20_000
NOISE = random.Random(5).randbytes(100_000)


def frame(data: bytes, *, sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=sized).compress(data)


@pytest.mark.parametrize("size", [1001, 5000, 64 * 1024, 256 * 1024 + 1, len(TEXT)])
async def test_what_is_packed_is_smaller_and_comes_back(size):
    data = await packed(TEXT[:size])
    assert len(data) < size / 5
    assert await unpacked(data, size) == TEXT[:size]


async def test_what_does_not_shrink_is_left_alone():
    assert await packed(NOISE) is None
    assert await packed(NOISE + TEXT) is None  # its beginning tells
    assert await packed(TEXT[: 64 * 1024] + random.Random(6).randbytes(1 << 20)) is None


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 5),
        (b"no zstd at all", 14),
        (frame(b"a" * 100), 99),
        (frame(b"a" * 100), 101),
        (frame(b"a" * 100)[:-1], 100),
        (frame(b"a" * 100) + b"!", 100),
        (frame(b"a" * 100) * 2, 100),
        (frame(b"a" * 100, sized=False), 100),
        (frame(bytes(1 << 26)), 1000),
    ],
    ids=["empty", "junk", "less", "more", "cut", "longer", "two frames", "no size", "bomb"],
)
def test_what_is_not_one_frame_of_the_announced_size_is_the_peers_fault(data, size):
    with pytest.raises(PeerMisbehaved) as caught:
        unpack(data, size)
    assert caught.value.rule == "compression"


@pytest.mark.looptime
async def test_bodies_travel_compressed_both_ways():
    limits = {"max_body_bytes": 1 << 20}
    async with pair({"echo": echo}, asker=hello(**limits), server=hello(**limits), pack_over=OVER) as (
        calling,
        serving,
        _,
    ):
        reply = await calling.call("echo", {"n": 1}, TEXT, 5, None)
        assert reply == Reply({"n": 1}, TEXT)
        wires = (calling._wire, serving._wire)
        assert all(wire.bytes_out < len(TEXT) / 20 for wire in wires)
        assert [wire.bytes_saved > 1.9 * len(TEXT) for wire in wires] == [True, True]
        assert (await calling.call("echo", {}, NOISE, 5, None)).body == NOISE
        await until(lambda: not serving.in_flight)
        assert calling._budget.used == serving._budget.used == 0


@pytest.mark.looptime
async def test_chunks_before_a_compressed_body_are_its_beginning():
    async def talk(call: InboundCall) -> Reply:
        await call.send(b"first ")
        await call.send(b"second ")
        return Reply({}, TEXT[:50_000])

    async with pair({"talk": talk}, pack_over=OVER) as (calling, _, _):
        assert (await calling.call("talk", {}, b"", 5, None)).body == b"first second " + TEXT[:50_000]
        assert calling._budget.used == 0


async def served(pack_over: int, body: bytes, plain_bytes: int, *, room: int = 1 << 20):
    """What an acceptor makes of a request with such a body."""
    near, far = memory_stream()
    faults: list[PeerMisbehaved] = []
    session = answering(far, hello(), {"echo": echo}, budget=Budget(room), on_fault=faults.append, pack_over=pack_over)
    task = asyncio.create_task(session.run())
    raw = RawEnd(near)
    raw.greet()
    await raw.expect(Kind.HELLO)
    head = messages.request_head("echo", 5000, {}, len(body), plain_bytes)
    raw.write(messages.with_head(Kind.REQUEST, 1, head, body))
    answer = await raw.frame()
    near.writer.close()
    await asyncio.wait([task])
    used = session.end._budget.used
    await session.end.close()
    await asyncio.sleep(0.1)
    return faults, answer, task.exception(), used


@pytest.mark.looptime
async def test_a_bomb_is_recorded_and_gives_its_room_back():
    faults, answer, _, used = await served(OVER, frame(bytes(1 << 24)), 5000)
    assert [fault.rule for fault in faults] == ["compression"]
    assert (answer.kind, used) == (Kind.ERROR, 0)


@pytest.mark.looptime
async def test_what_a_body_unpacks_to_is_within_the_limits_of_plain_ones():
    _, answer, _, _ = await served(OVER, frame(bytes(1 << 24)), 1 << 24)
    assert messages.parse(messages.ErrorBody, answer.body, 4096).kind == "invalid"
    _, answer, _, used = await served(OVER, frame(bytes(20_000)), 20_000, room=20_000)
    assert (messages.parse(messages.ErrorBody, answer.body, 4096).kind, used) == ("overloaded", 0)


@pytest.mark.looptime
async def test_compressing_what_was_not_agreed_on_is_misbehaviour():
    _, _, ended, _ = await served(0, frame(bytes(20_000)), 20_000)
    assert (type(ended), ended.rule) == (PeerMisbehaved, "compression")


@pytest.mark.looptime
@pytest.mark.parametrize("body", [frame(bytes(9000)), b"junk"], ids=["another size", "junk"])
async def test_an_answer_that_does_not_unpack_fails_the_call_and_is_recorded(body):
    near, far = memory_stream()
    faults: list[PeerMisbehaved] = []
    session = asking(near, hello(), on_fault=faults.append, pack_over=OVER)
    task = asyncio.create_task(session.run())
    raw = RawEnd(far)
    await raw.expect(Kind.HELLO)
    raw.greet()
    await until(lambda: session.usable)
    call = asyncio.create_task(session.end.call("echo", {}, b"", 5, None))
    await raw.expect(Kind.REQUEST)
    raw.write(messages.with_head(Kind.RESULT, 1, messages.result_head({}, len(body), 9001), body))
    with pytest.raises(CallFailed) as caught:
        await call
    assert (caught.value.kind, [fault.rule for fault in faults]) == ("protocol", ["compression"])
    assert session.end._budget.used == 0
    task.cancel()
    await asyncio.wait([task])
    far.writer.close()
    await asyncio.sleep(0.1)


def test_a_bomb_takes_no_memory():
    bomb = frame(bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(PeerMisbehaved):
            unpack(bomb, 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
