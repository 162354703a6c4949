"""A QUIC connection without sockets: its windows, its ends, and what aioquic alone would not bear."""

import random
from collections.abc import Callable

import pytest
import trio
from aioquic.buffer import Buffer
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from mesh.p2p.host.quic.machine import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from mesh.p2p.host.quic.resets import Resets
from mesh.p2p.host.quic.streams import SEND_BUFFER_BYTES, QuicStream
from tests.kit.quic_pair import CLIENT, MAX_STREAMS, SERVER, End, Pair, identity_of, inside_trio, peer_of


async def connected(pair: Pair | None = None) -> Pair:
    pair = pair or Pair()
    pair.begin()
    await pair.later()
    assert pair.client.muxed.is_established
    assert pair.server.muxed.is_established
    return pair


async def stream_of(pair: Pair) -> tuple[QuicStream, QuicStream]:
    near = await pair.client.muxed.open_stream()
    await near.write(b"hi")
    pair.carry()
    far = await pair.server.muxed.accept_stream()
    assert await far.read() == b"hi"
    return near, far


def open_by_hand(end: End, data: bytes = b"x", *, ended: bool = False) -> int:
    """A stream of aioquic's, without ours."""
    number = end.machine.get_next_available_stream_id()
    end.machine.send_stream_data(number, data, end_stream=ended)
    return number


def ignore_windows(end: End) -> None:
    """Send whatever was written, whatever the peer allows."""
    end.machine._remote_max_data = 1 << 60
    for stream in end.machine._streams.values():
        stream.max_stream_data_remote = 1 << 60


def test_both_prove_who_they_are() -> None:
    async def main() -> None:
        pair = await connected()
        assert pair.client.muxed.peer_id == peer_of(2)
        assert pair.server.muxed.peer_id == peer_of(1)
        assert (pair.client.muxed.is_initiator, pair.server.muxed.is_initiator) == (True, False)

    inside_trio(main)


@pytest.mark.parametrize(("near", "far"), [("client", "server"), ("server", "client")])
def test_bytes_and_ends_go_both_ways(near: str, far: str) -> None:
    async def main() -> None:
        pair = await connected()
        one, other = getattr(pair, near).muxed, getattr(pair, far).muxed
        sender = await one.open_stream()
        await sender.write(b"question")
        await sender.close_write()
        pair.carry()
        receiver = await other.accept_stream()
        assert await receiver.read(4) + await receiver.read() == b"question"
        with pytest.raises(MuxedStreamEOF):
            await receiver.read()
        await receiver.write(b"answer")
        await receiver.close()
        pair.carry()
        assert await sender.read() == b"answer"
        with pytest.raises(MuxedStreamEOF):
            await sender.read()
        with pytest.raises(MuxedStreamClosed):
            await sender.write(b"more")
        await pair.later()
        for end in (pair.client, pair.server):
            assert (end.muxed._streams, end.machine._streams, end.muxed.held()) == ({}, {}, 0)

    inside_trio(main)


@pytest.mark.parametrize(("count", "held"), [(1, STREAM_WINDOW_BYTES), (10, CONNECTION_WINDOW_BYTES)])
def test_what_nobody_reads_takes_a_window_and_no_more(count: int, held: int) -> None:
    async def main() -> None:
        pair = await connected()
        for _ in range(count):
            open_by_hand(pair.client, bytes(STREAM_WINDOW_BYTES + 1))
        pair.client.muxed.flush()
        await pair.until(lambda: pair.server.muxed.held() >= held)
        await pair.later(1)
        assert pair.server.muxed.held() == held
        assert pair.server.muxed.wire.is_behind
        assert pair.budget.total == held

    inside_trio(main)


def test_who_is_read_from_may_go_on() -> None:
    async def main() -> None:
        pair = await connected()
        near, far = await stream_of(pair)
        size = 3 * STREAM_WINDOW_BYTES + 7

        async def write() -> None:
            await near.write(bytes(size))
            await near.close_write()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            taken = 0
            while taken < size:
                await pair.later(0.05, 1)
                with trio.move_on_after(0):
                    taken += len(await far.read(1 << 20))
        await pair.later()
        with pytest.raises(MuxedStreamEOF):
            await far.read()
        assert pair.server.muxed.held() == 0

    inside_trio(main)


@pytest.mark.parametrize("of", ["a stream", "the connection"])
def test_who_ignores_the_windows_is_gone(of: str) -> None:
    async def main() -> None:
        pair = await connected()
        each = STREAM_WINDOW_BYTES * (1 if of == "the connection" else 2)
        for _ in range(9 if of == "the connection" else 1):
            open_by_hand(pair.client, bytes(each))
        ignore_windows(pair.client)
        pair.client.muxed.flush()
        await pair.until(lambda: pair.server.muxed.is_closed)
        assert f"Over {'stream' if of == 'a stream' else 'connection'} data limit" in pair.server.muxed.wire.end_reason
        assert pair.budget.total == 0

    inside_trio(main)


def test_gaps_count_as_what_they_hide() -> None:
    """One byte far ahead in each of many streams; given up, the room is there again, and the memory."""

    async def main() -> None:
        pair = await connected()
        streams = [open_by_hand(pair.client, bytes(STREAM_WINDOW_BYTES)) for _ in range(8)]
        for number in streams:
            pair.client.machine._streams[number].sender._pending.subtract(0, STREAM_WINDOW_BYTES - 1)
        pair.client.muxed.flush()
        await pair.later(1)
        assert pair.server.muxed.held() == CONNECTION_WINDOW_BYTES
        for number in streams:
            pair.client.machine.reset_stream(number, 0)
        pair.client.muxed.flush()
        pair.carry()
        assert pair.server.muxed.held() == 0
        assert not any(stream.receiver._buffer for stream in pair.server.machine._streams.values())

    inside_trio(main)


@pytest.mark.parametrize(("frame", "room"), [("stream", STREAM_WINDOW_BYTES), ("crypto", 1 << 16)])
def test_bytes_here_and_there_do_not_keep_us_busy(frame: str, room: int) -> None:
    """aioquic takes half a second for a packet of them once there are some ten thousand gaps."""
    numbers = {"stream": (0x0E, 0), "crypto": (0x06,)}[frame]

    async def main() -> None:
        pair = await connected()
        said = Buffer(capacity=2000)
        for offset in range(2, room, 2):
            for number in (*numbers, offset, 1):
                said.push_uint_var(number)
            said.push_bytes(b"x")
            if said.tell() > 1000:
                pair.say(pair.client, pair.server, said.data)
                said.seek(0)
            if pair.server.muxed.is_closed:
                break
        assert "Too many gaps" in pair.server.muxed.wire.end_reason
        assert pair.server.muxed.held() < 2000

    inside_trio(main)


def test_messages_of_tls_are_kept_for_later_within_limits() -> None:
    async def main() -> None:
        pair = await connected()
        said = Buffer(capacity=100)
        for number in (0x06, 1 << 16, 1):
            said.push_uint_var(number)
        pair.say(pair.client, pair.server, said.data + b"x")
        assert "too much crypto buffering" in pair.server.muxed.wire.end_reason

    inside_trio(main)


def test_who_sends_more_than_all_may_hold_is_given_up() -> None:
    async def main() -> None:
        pair = await connected(Pair(budget=500_000))
        open_by_hand(pair.client, bytes(STREAM_WINDOW_BYTES))
        pair.client.muxed.flush()
        await pair.until(lambda: pair.server.muxed.is_closed)
        refusal = pair.server.muxed.refusal
        assert refusal is not None
        assert (refusal.rule, refusal.limit) == ("max_receive_bytes", "500000")
        assert pair.budget.total == 0
        await pair.later()
        assert pair.client.muxed.is_closed

    inside_trio(main)


def test_what_was_read_before_a_reset_is_not_counted_twice() -> None:
    async def main() -> None:
        pair = await connected()
        near, far = await stream_of(pair)
        await near.write(bytes(1000))
        pair.carry()
        await far.read(10)
        await near.reset()
        pair.carry()
        assert pair.server.muxed.held() == 0
        with pytest.raises(MuxedStreamReset):
            await far.read()

    inside_trio(main)


def give_up_before_the_bytes_come(pair: Pair, near: End) -> None:
    number = open_by_hand(near, bytes(500))
    near.muxed.flush()
    near.sent.clear()
    near.machine.reset_stream(number, 0)
    near.machine.stop_stream(number, 0)
    near.muxed.flush()


def give_up_at_once(pair: Pair, near: End) -> None:
    number = open_by_hand(near, bytes(500))
    near.muxed.flush()
    near.machine.reset_stream(number, 0)
    near.machine.stop_stream(number, 0)
    near.muxed.flush()


@pytest.mark.parametrize("far", ["client", "server"])
@pytest.mark.parametrize("give_up", [give_up_before_the_bytes_come, give_up_at_once])
def test_streams_that_are_given_up_leave_nothing_behind(give_up: Callable[[Pair, End], None], far: str) -> None:
    """Otherwise the windows, or the streams that are allowed, are used up after a while."""

    async def main() -> None:
        pair = await connected()
        near, other = (pair.client, pair.server) if far == "server" else (pair.server, pair.client)
        for _ in range(3 * MAX_STREAMS):
            give_up(pair, near)
            await pair.until(lambda: other.muxed._to_accept.statistics().current_buffer_used > 0)
            await pair.later()
            stream = await other.muxed.accept_stream()
            with pytest.raises(MuxedStreamReset):
                await stream.read()
            with pytest.raises((MuxedStreamClosed, MuxedStreamReset)):
                await stream.write(b"answer")
            await stream.reset()
            await pair.later()
        assert not pair.client.muxed.is_closed
        assert (other.muxed.held(), other.muxed._streams) == (0, {})
        assert len(other.muxed._begun) <= 1
        assert other.machine._streams == {}

    inside_trio(main)


def test_streams_that_are_opened_and_ended_faster_than_anybody_looks_end_nothing() -> None:
    async def main() -> None:
        pair = await connected()
        for _ in range(6):
            for _ in range(40):
                number = open_by_hand(pair.client, ended=True)
                pair.client.machine.stop_stream(number, 0)
            pair.client.muxed.flush()
            pair.carry()
            await pair.later()
        assert not pair.server.muxed.is_closed
        assert pair.server.muxed.held() <= MAX_STREAMS
        for _ in range(MAX_STREAMS):
            await pair.server.muxed.accept_stream()
        near = await pair.client.muxed.open_stream()
        await near.write(b"still there")
        pair.carry()
        assert await (await pair.server.muxed.accept_stream()).read() == b"still there"

    inside_trio(main)


def test_an_answer_that_is_unwanted_before_the_question_comes_is_not_written() -> None:
    async def main() -> None:
        pair = await connected()
        number = open_by_hand(pair.client, b"question")
        pair.client.muxed.flush()
        late, pair.client.sent = pair.client.sent, []
        pair.client.machine.stop_stream(number, 0)
        pair.client.muxed.flush()
        pair.carry()
        pair.client.sent = late
        pair.carry()
        far = await pair.server.muxed.accept_stream()
        assert await far.read() == b"question"
        with pytest.raises(MuxedStreamClosed):
            await far.write(b"answer")
        with trio.move_on_after(1) as nothing_more:
            await pair.server.muxed.accept_stream()
        assert nothing_more.cancelled_caught

    inside_trio(main)


def test_a_stream_over_the_peers_limit_waits_and_may_be_given_up() -> None:
    """A word of it, be it that it is given up, would end the connection."""

    async def main() -> None:
        pair = await connected(Pair({SERVER: identity_of(2, max_streams=4)}))
        streams = [await pair.client.muxed.open_stream() for _ in range(8)]
        for stream in streams:
            await stream.write(b"x")
        await pair.later()
        await streams[5].reset()
        await pair.later(1)
        assert not pair.client.muxed.is_closed
        for stream in streams[:4]:
            await stream.reset()
            far = await pair.server.muxed.accept_stream()
            await far.reset()
        await pair.later(1)
        assert not pair.client.muxed.is_closed
        assert await (await pair.server.muxed.accept_stream()).read() == b"x"
        with pytest.raises(MuxedStreamReset):
            await (await pair.server.muxed.accept_stream()).read()

    inside_trio(main)


def test_who_never_acknowledges_is_given_half_a_mebibyte() -> None:
    async def main() -> None:
        pair = await connected()
        near, _ = await stream_of(pair)
        pair.lose = lambda _data: True
        written = 0
        with trio.move_on_after(5) as waited:
            while True:
                await near.write(bytes(100_000))
                written += 100_000
        assert waited.cancelled_caught
        assert pair.client.muxed.unacknowledged(near.number) == SEND_BUFFER_BYTES
        assert written < SEND_BUFFER_BYTES
        await near.reset()
        with pytest.raises(MuxedStreamClosed):
            await near.write(b"x")

    inside_trio(main)


@pytest.mark.parametrize("how", ["read", "write"])
@pytest.mark.parametrize("end", ["it is aborted", "the peer closes", "the stream is reset"])
def test_who_waits_is_woken_by_the_end(how: str, end: str) -> None:
    async def main() -> None:
        pair = await connected()
        near, far = await stream_of(pair)
        pair.client.machine._streams[near.number].max_stream_data_remote = 0
        raised = trio.Event()

        async def wait() -> None:
            with pytest.raises((MuxedStreamReset, MuxedStreamClosed)):
                await (near.read() if how == "read" else near.write(bytes(2 * SEND_BUFFER_BYTES)))
            raised.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await pair.later()
            if end == "it is aborted":
                pair.client.muxed.wire.abort("enough")
            elif end == "the peer closes":
                await pair.server.muxed.close()
            else:
                await far.reset()
            pair.carry()
            with trio.fail_after(5):
                await raised.wait()

    inside_trio(main)


def test_a_goodbye_is_noticed_at_once() -> None:
    async def main() -> None:
        pair = await connected()
        await stream_of(pair)
        now = trio.current_time()
        await pair.client.muxed.close()
        pair.carry()
        assert pair.server.muxed.is_closed
        assert pair.server.muxed.wire.end_reason == "closed by the peer"
        assert trio.current_time() == now
        for end in (pair.client, pair.server):
            assert end.muxed._streams == {}
            with pytest.raises(MuxedConnUnavailable):
                await end.muxed.open_stream()
        assert pair.budget.total == 0

    inside_trio(main)


def test_silence_is_an_end() -> None:
    async def main() -> None:
        pair = await connected()
        await stream_of(pair)
        pair.lose = lambda _data: True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.server.muxed.run)
            nursery.start_soon(pair.client.muxed.run)
        assert "Idle timeout" in pair.server.muxed.wire.end_reason
        assert trio.current_time() < 60

    inside_trio(main)


@pytest.mark.parametrize("loser", ["client", "server"])
def test_who_has_lost_a_connection_can_say_so(loser: str) -> None:
    """Of every id that the other uses, the first one of who dialled included."""

    async def main() -> None:
        pair = await connected()
        lost, other = (pair.client, pair.server) if loser == "client" else (pair.server, pair.client)
        await other.muxed.ask_for_life()
        (packet,) = other.sent
        answer = lost.machine._resets.answer(packet[1:9], len(packet))
        assert answer is not None
        assert len(answer) < len(packet)
        assert not other.muxed.is_reset_by(answer[:-1] + bytes([answer[-1] ^ 1]))
        assert not other.muxed.is_closed
        assert other.muxed.is_reset_by(answer)
        assert other.muxed.is_closed
        assert other.muxed.wire.end_reason == "the peer has lost the connection"

    inside_trio(main)


def test_ids_mean_the_connection_before_the_peer_can_use_them() -> None:
    async def main() -> None:
        pair = Pair()
        pair.client.machine.connect(SERVER, trio.current_time())
        pair.client.muxed.flush()
        for _ in range(100):
            await trio.sleep(0.01)
            for near, far in ((pair.client, pair.server), (pair.server, pair.client)):
                if near.machine.has_begun:
                    near.tick()
                assert {one.cid for one in near.machine._host_cids if one.was_sent} <= near.ids
                pair.carry_once(near, far)
        assert len(pair.client.ids) > 1
        assert len(pair.server.ids) > 1

    inside_trio(main)


def test_two_that_know_nothing_of_each_other_do_not_answer_for_ever() -> None:
    knowing = Resets(b"1" * 32, "a"), Resets(b"2" * 32, "b")
    packet: bytes | None = bytes(1200)
    sizes = []
    while packet is not None:
        sizes.append(len(packet))
        packet = knowing[len(sizes) % 2].answer(packet[1:9], len(packet))
    assert len(sizes) < 30
    assert sizes == sorted(set(sizes), reverse=True)


def test_an_error_in_aioquic_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it when it takes, when it sends, or when it is time."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    async def main(name: str, then: Callable[[Pair], None]) -> None:
        pair = await connected()
        await pair.client.muxed.ask_for_life()
        monkeypatch.setattr(pair.server.machine, name, fail)
        then(pair)
        assert pair.server.muxed.is_closed
        assert isinstance(pair.server.muxed.wire.failure, ZeroDivisionError)

    def take(pair: Pair) -> None:
        pair.carry()

    def send(pair: Pair) -> None:
        pair.server.muxed.flush()

    def leave(pair: Pair) -> None:
        pair.server.muxed.wire.abort("enough")

    for name, then in (("receive_datagram", take), ("datagrams_to_send", send), ("datagrams_to_send", leave)):
        inside_trio(lambda name=name, then=then: main(name, then))


@pytest.mark.parametrize("broken", [CLIENT, SERVER])
def test_bytes_arrive_whole_over_a_network_that_loses_some(broken: tuple[str, int]) -> None:
    async def main() -> None:
        rng = random.Random(f"lossy {broken}")
        pair = await connected()
        near, far = await stream_of(pair)
        data = rng.randbytes(300_000)
        pair.lose = lambda _data: rng.random() < 0.05

        async def write() -> None:
            await near.write(data)
            await near.close_write()

        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while len(received) < len(data):
                await pair.later(0.05, 1)
                with trio.move_on_after(0):
                    received += await far.read()
        assert received == data

    inside_trio(main)
