"""Streams over Yamux between two ends of ours."""

import random

import pytest
import trio
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)

from mesh.p2p.host.yamux.frames import INITIAL_WINDOW_BYTES
from mesh.p2p.host.yamux.stream import MAX_WINDOW_BYTES, YamuxStream
from tests.kit.yamux_pair import Pair, connected, until


async def all_of(stream: YamuxStream) -> bytes:
    data = b""
    try:
        while True:
            data += await stream.read(65536)
    except MuxedStreamEOF:
        return data


async def send(stream: YamuxStream, data: bytes) -> None:
    await stream.write(data)
    await stream.close_write()


async def many_streams_at_once(pair: Pair) -> None:
    sent = [random.Random(number).randbytes(200_000 * number) for number in range(8)]
    got: dict[int, bytes] = {}

    async def echo() -> None:
        stream = await pair.far.accept_stream()
        assert isinstance(stream, YamuxStream)
        await send(stream, await all_of(stream))

    async def one(number: int) -> None:
        stream = await pair.near.open_stream()
        async with trio.open_nursery() as both:
            both.start_soon(send, stream, sent[number])
            got[number] = await all_of(stream)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(echo)
            nursery.start_soon(one, number)
    assert [got[number] for number in range(8)] == sent
    assert pair.near.held() == pair.far.held() == 0


async def a_cancelled_write_harms_nobody(pair: Pair) -> None:
    """Noise counts its messages: one that was sealed and not sent would be the last that the other side can read."""
    slow, far_slow = await pair.stream()
    for _ in range(20):
        with trio.move_on_after(0.002):
            await slow.write(bytes(100_000))
    quick, far_quick = await pair.stream()
    await quick.write(b"still there")
    assert await far_quick.read() == b"still there"
    assert await far_slow.read(1) == b"\0"


async def a_write_waits_for_as_long_as_the_peer_takes(pair: Pair) -> None:
    near, far = await pair.stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, near, bytes(1 << 20))
        await until(lambda: near.send_window == 0 and pair.far.held() == INITIAL_WINDOW_BYTES)
        assert len(await all_of(far)) == 1 << 20


async def the_end_of_one_direction_leaves_the_other(pair: Pair) -> None:
    near, far = await pair.stream()
    await near.close_write()
    with pytest.raises(MuxedStreamEOF):
        await far.read()
    with pytest.raises(MuxedStreamClosed):
        await near.write(b"more")
    await send(far, b"and yet")
    assert await all_of(near) == b"and yet"


async def a_reset_is_heard_and_takes_what_was_not_read(pair: Pair) -> None:
    near, far = await pair.stream()
    await near.write(b"never mind")
    await until(lambda: pair.far.held() == 10)
    await near.reset()
    await until(lambda: far.reset_received)
    assert pair.far.held() == 0
    for stream in (near, far):
        with pytest.raises(MuxedStreamReset):
            await stream.read()
        with pytest.raises(MuxedStreamReset):
            await stream.write(b"x")


async def what_came_before_the_connection_ended_can_be_read(pair: Pair) -> None:
    near, far = await pair.stream()
    await near.write(b"last words")
    await until(lambda: pair.far.held())
    await pair.near.close()
    await pair.far.event_shutting_down.wait()
    assert await far.read() == b"last words"
    with pytest.raises(MuxedStreamReset):
        await far.read()
    with pytest.raises(MuxedConnUnavailable):
        await pair.far.open_stream()
    with pytest.raises(MuxedConnUnavailable):
        await pair.far.accept_stream()
    assert pair.far.wire.end_reason == "closed by the peer"


async def closed_streams_leave_nothing(pair: Pair) -> None:
    for _ in range(300):
        near, far = await pair.stream()
        await send(near, b"x")
        await far.close()
        await near.close()
    await until(lambda: not pair.near._streams and not pair.far._streams)
    assert not pair.near._left
    assert not pair.far._left


async def a_larger_window_for_who_is_far_away(pair: Pair) -> None:
    near, far = await pair.stream()
    pair.far.rtt = 10.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, near, bytes(4 << 20))
        assert len(await all_of(far)) == 4 << 20
    assert far._window == MAX_WINDOW_BYTES


async def a_stream_that_nobody_waits_for_any_more_is_not_opened(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.near.open_stream()
    near, far = await pair.stream()
    assert (list(pair.near._streams), list(pair.far._streams)) == ([near.number], [far.number])


async def a_ping_measures_how_far_that_is(pair: Pair) -> None:
    heard = pair.near.wire.heard_at
    await pair.near.ask_for_life()
    await until(lambda: pair.near.rtt > 0)
    assert pair.near.wire.heard_at > heard


@pytest.mark.parametrize(
    "story",
    [
        many_streams_at_once,
        a_cancelled_write_harms_nobody,
        a_write_waits_for_as_long_as_the_peer_takes,
        the_end_of_one_direction_leaves_the_other,
        a_reset_is_heard_and_takes_what_was_not_read,
        what_came_before_the_connection_ended_can_be_read,
        closed_streams_leave_nothing,
        a_larger_window_for_who_is_far_away,
        a_stream_that_nobody_waits_for_any_more_is_not_opened,
        a_ping_measures_how_far_that_is,
    ],
    ids=lambda story: story.__name__,
)
def test_of_two_ends(story) -> None:
    async def main() -> None:
        async with connected() as pair:
            await story(pair)

    trio.run(main)
