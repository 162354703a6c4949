"""Streams over Yamux: between two ends of ours, and against a peer that is written by hand."""

import os
import random
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)

from mesh.p2p.host.channels import READ_AHEAD_BYTES
from mesh.p2p.host.ciphers import Cipher, CipherFault, NoiseCipher, cipher_of
from mesh.p2p.host.pump import CHUNK_BYTES
from mesh.p2p.host.wires import OWED_BYTES
from mesh.p2p.host.yamux import connection
from mesh.p2p.host.yamux.frames import HEADER_BYTES, INITIAL_WINDOW_BYTES, Flag, Kind, encode
from mesh.p2p.host.yamux.stream import MAX_WINDOW_BYTES, YamuxStream
from tests.kit.yamux_pair import Pair, Plain, connected, facing, noise_pair, tls_pair

SYN, ACK, FIN, RST = Flag.SYN, Flag.ACK, Flag.FIN, Flag.RST


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


async def write_on(stream: YamuxStream) -> None:
    while True:
        await stream.write(b"x")
        await trio.lowlevel.checkpoint()


async def until(condition) -> None:
    while not condition():
        await trio.sleep(0.001)


# --- between two of ours ---------------------------------------------------------------------------------------------


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


# --- against a peer that does what it is told ------------------------------------------------------------------------


def test_what_is_pumped_at_a_time_is_one_frame_and_one_message_of_noise() -> None:
    async def main() -> None:
        assert CHUNK_BYTES + HEADER_BYTES == MAX_PLAINTEXT_LENGTH
        async with facing(initiator=True) as (ours, peer):
            stream = await ours.open_stream()
            await stream.write(bytes(CHUNK_BYTES))
            assert (await peer.hears())[:3] == (Kind.WINDOW_UPDATE, SYN, 1)
            assert (await peer.hears()).kind == Kind.PING
            assert (await peer.hears()).value == CHUNK_BYTES

    trio.run(main)


def test_a_sender_gets_room_again_once_half_of_its_window_was_read() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            half = INITIAL_WINDOW_BYTES // 2
            await peer.says(Kind.DATA, SYN, 1, half, data=bytes(half))
            assert (await peer.hears())[:3] == (Kind.WINDOW_UPDATE, ACK, 1)
            stream = await ours.accept_stream()
            await until(lambda: ours.held() == half)
            for _ in range(100):
                assert await stream.read(1) == b"\0"
            assert len(await stream.read(half - 101)) == half - 101
            await peer.says(Kind.PING, SYN, 0, 7)
            assert (await peer.hears())[:4] == (Kind.PING, ACK, 0, 7)  # and nothing before it
            await stream.read(1)
            assert (await peer.hears())[:4] == (Kind.WINDOW_UPDATE, Flag.NONE, 1, half)

    trio.run(main)


@pytest.mark.parametrize("announced", [INITIAL_WINDOW_BYTES + 1, 0x7FFFFFFF])
def test_who_announces_more_than_its_window_is_dropped(announced: int) -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(Kind.DATA, SYN, 1, announced)
            await peer.until_closed()
            assert ours.overflowed
            assert ours.held() == 0

    trio.run(main)


def test_who_sends_on_after_its_window_was_closed_is_dropped() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(Kind.DATA, SYN, 1, INITIAL_WINDOW_BYTES, data=bytes(INITIAL_WINDOW_BYTES))
            await peer.says(Kind.DATA, 0, 1, 1, data=b"x")
            await peer.until_closed()
            assert ours.overflowed

    trio.run(main)


def test_a_connection_holds_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BUFFERED_BYTES", 3 * INITIAL_WINDOW_BYTES)

    async def main() -> None:
        async with facing() as (ours, peer):
            for number in (1, 3, 5):
                await peer.says(Kind.DATA, SYN, number, INITIAL_WINDOW_BYTES, data=bytes(INITIAL_WINDOW_BYTES))
            await peer.says(Kind.DATA, SYN, 7, 1)
            await peer.until_closed()
            assert ours.overflowed

    trio.run(main)


def test_all_connections_together_hold_no_more_than_the_budget() -> None:
    async def main() -> None:
        async with facing(budget=1000) as (ours, peer):
            await peer.says(Kind.DATA, SYN, 1, 900, data=bytes(900))
            await peer.hears()
            await peer.says(Kind.DATA, 0, 1, 200, data=bytes(200))
            await peer.until_closed()
            assert ours.refusal is not None
            assert (ours.refusal.rule, ours.refusal.limit) == ("max_receive_bytes", "1000")
            await ours.event_shutting_down.wait()
            assert ours._budget.total == 0

    trio.run(main)


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        ((Kind.DATA, SYN, 2, 0), "stream 2"),
        ((Kind.DATA, SYN, 0, 0), "stream 0"),
        ((9, 0, 1, 0), "kind 9"),
    ],
)
def test_what_breaks_the_protocol_is_named(frame: tuple[int, ...], fault: str) -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(*frame)
            await peer.until_closed()
            assert fault in ours.fault

    trio.run(main)


def test_a_number_that_is_taken_is_refused_and_the_stream_goes_on() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            for _ in range(2):
                await peer.says(Kind.WINDOW_UPDATE, SYN, 1, 0)
            assert [(await peer.hears())[:3] for _ in range(2)] == [
                (Kind.WINDOW_UPDATE, ACK, 1),
                (Kind.WINDOW_UPDATE, RST, 1),
            ]
            stream = await ours.accept_stream()
            await peer.says(Kind.DATA, FIN, 1, 2, data=b"on")
            assert await stream.read() == b"on"

    trio.run(main)


def test_streams_that_nobody_looks_at_are_given_up() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            for number in range(1, 801, 2):
                await peer.says(Kind.WINDOW_UPDATE, SYN, number, 0)
            flags = [(await peer.hears()).flags for _ in range(400)]
            assert flags.count(ACK) == len(ours._streams) == 256
            assert flags.count(RST) == 400 - 256

    trio.run(main)


def test_streams_that_we_left_and_the_peer_keeps_are_given_up() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            for number in range(1, 201, 2):
                await peer.says(Kind.DATA, SYN, number, 3, data=b"abc")
                stream = await ours.accept_stream()
                await stream.close()
                await peer.says(Kind.DATA, 0, number, 3, data=b"def")  # nobody reads that
            await peer.says(Kind.PING, SYN, 0, 1)
            resets = []
            while (frame := await peer.hears()).kind != Kind.PING:
                resets += [frame.stream] if frame.flags & RST else []
            assert resets == list(range(1, 73, 2))
            assert len(ours._streams) == 64
            assert ours.held() == 0

    trio.run(main)


def test_who_does_not_read_its_answers_is_not_read_either() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            pings = b"".join(encode(Kind.PING, SYN, 0, number) for number in range(1 << 14))
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    while True:
                        await peer.socket.send_all(pings)

                nursery.start_soon(flood)
                await until(lambda: ours.wire.is_overfull)
                for _ in range(300):
                    assert ours.wire.owed_bytes < 8 * OWED_BYTES + READ_AHEAD_BYTES
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_data_waits_while_much_is_owed() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(Kind.WINDOW_UPDATE, SYN, 1, 1 << 30)
            stream = await ours.accept_stream()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, bytes(64 << 20))
                await until(lambda: ours.wire.is_full)
                assert ours.wire.owed_bytes < OWED_BYTES + 65536
                got = 0
                while got < 64 << 20:
                    got += len((await peer.hears()).data)

    trio.run(main)


def test_frames_of_streams_that_are_over_are_passed_over() -> None:
    async def main() -> None:
        async with facing() as (_, peer):
            await peer.says(Kind.DATA, 0, 99, 5, data=b"stale")
            await peer.says(Kind.WINDOW_UPDATE, RST, 99, 0)
            await peer.says(Kind.PING, SYN, 0, 1)
            assert (await peer.hears()).kind == Kind.PING

    trio.run(main)


def test_a_goodbye_is_taken_for_one() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(Kind.GO_AWAY, 0, 0, 0)
            await ours.event_shutting_down.wait()
            assert ours.wire.end_reason == "closed by the peer"

    trio.run(main)


def test_a_broken_wire_ends_the_connection_and_who_waits() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(Kind.WINDOW_UPDATE, SYN, 1, 0)
            stream = await ours.accept_stream()
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    with pytest.raises(MuxedStreamReset):
                        await stream.read()

                async def write() -> None:
                    with pytest.raises(MuxedStreamReset):
                        await stream.write(bytes(1 << 20))

                nursery.start_soon(read)
                nursery.start_soon(write)
                await until(lambda: stream.send_window == 0)
                ours.wire.abort("unplugged")
            assert ours.wire.end_reason == "unplugged"

    trio.run(main)


def test_last_words_are_read_though_the_peer_hears_nothing_more() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.says(Kind.WINDOW_UPDATE, SYN, 1, 0)
            stream = await ours.accept_stream()
            number = peer.socket.socket.fileno()
            os.write(number, encode(Kind.DATA, 0, 1, 10, b"last words"))
            peer.socket.socket.close()  # a reset: it has not read that we took its stream
            await stream.write(b"too late")
            assert await stream.read() == b"last words"
            with pytest.raises(MuxedStreamReset):
                await stream.read()
            assert ours.wire.end_reason == "connection reset by the peer"

    trio.run(main)


def test_who_writes_does_not_feel_that_the_cipher_has_failed() -> None:
    """OpenSSL seals nothing more once it could not open something."""

    class Spoiling(Plain):
        spoilt = False

        def seal(self, data: bytes) -> bytes:
            assert not self.spoilt
            return data

        def open(self, data: bytes) -> bytes:
            if data == b"spoil":
                self.spoilt = True
                raise CipherFault("not sealed by the other side")
            return data

    async def main() -> None:
        async with facing(cipher=Spoiling()) as (ours, peer):
            await peer.says(Kind.WINDOW_UPDATE, SYN, 1, 1 << 30)
            stream = await ours.accept_stream()
            await peer.socket.send_all(b"spoil")
            with pytest.raises(MuxedStreamReset):
                await write_on(stream)
            assert ours.wire.end_reason == "not sealed by the other side"

    trio.run(main)


async def plain() -> tuple[Cipher, Cipher]:
    return Plain(), Plain()


async def noise() -> tuple[Cipher, Cipher]:
    near, far = noise_pair()
    return NoiseCipher(near), NoiseCipher(far)


async def tls() -> tuple[Cipher, Cipher]:
    near, far = await tls_pair()
    return cipher_of(near), cipher_of(far)


@pytest.mark.parametrize("ciphers", [plain, noise, tls])
def test_who_says_much_at_once_leaves_turns_to_others(ciphers: Callable[[], Awaitable[tuple[Cipher, Cipher]]]) -> None:
    async def main() -> None:
        near, far = await ciphers()
        async with facing(cipher=far) as (ours, peer):
            put, answers, a_turn = ours.wire.put, 0, []

            def counted(data: bytes) -> None:
                nonlocal answers
                answers += 1
                put(data)

            ours.wire.put = counted  # type: ignore[method-assign]
            pings = b"".join(near.seal(encode(Kind.PING, SYN, 0, number)) for number in range(800))
            assert os.write(peer.socket.socket.fileno(), pings) == len(pings)
            while sum(a_turn) < 800:
                await trio.lowlevel.checkpoint()
                a_turn.append(answers - sum(a_turn))
            assert max(a_turn) < 200

    trio.run(main)


@pytest.mark.parametrize("ciphers", [noise, tls])
def test_many_messages_at_once_are_opened_some_at_a_time(
    ciphers: Callable[[], Awaitable[tuple[Cipher, Cipher]]],
) -> None:
    async def main() -> None:
        near, far = await ciphers()
        opened = [far.open(b"".join(near.seal(b"x") for _ in range(1000)))]
        while far.behind:
            opened.append(far.open(b""))
        assert sum(map(len, opened)) == 1000
        assert max(map(len, opened)) < 100

    trio.run(main)
