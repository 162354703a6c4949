"""A Yamux connection of ours, and a peer that does what it is told."""

import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from libp2p.abc import IMuxedStream
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import (
    MuxedStreamReset,
)

from mesh.p2p.host.channels import READ_AHEAD_BYTES
from mesh.p2p.host.ciphers import Cipher, CipherFault, NoiseCipher, cipher_of
from mesh.p2p.host.outgoing import OWED_BYTES
from mesh.p2p.host.pump import CHUNK_BYTES
from mesh.p2p.host.yamux import connection
from mesh.p2p.host.yamux.frames import HEADER_BYTES, INITIAL_WINDOW_BYTES, Flag, Kind, encode
from tests.kit.yamux_pair import Plain, facing, noise_pair, tls_pair, until

SYN, ACK, FIN, RST = Flag.SYN, Flag.ACK, Flag.FIN, Flag.RST


async def write_on(stream: IMuxedStream) -> None:
    while True:
        await stream.write(b"x")
        await trio.lowlevel.checkpoint()


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


def test_what_is_announced_and_not_here_yet_takes_room() -> None:
    async def main() -> None:
        async with facing() as (ours, peer):
            await peer.socket.send_all(encode(Kind.DATA, SYN, 1, INITIAL_WINDOW_BYTES, b"x"))
            assert (await peer.hears())[:3] == (Kind.WINDOW_UPDATE, ACK, 1)
            stream = await ours.accept_stream()
            assert await stream.read() == b"x"
            await peer.socket.send_all(bytes(INITIAL_WINDOW_BYTES - 1))
            await peer.says(Kind.PING, SYN, 0, 7)
            assert (await peer.hears())[:4] == (Kind.PING, ACK, 0, 7)  # and nothing before it

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
            assert ours.wire.socket is not None
            ours.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            pings = b"".join(encode(Kind.PING, SYN, 0, number) for number in range(1 << 14))
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    while True:
                        await peer.socket.send_all(pings)

                nursery.start_soon(flood)
                await until(lambda: ours.wire.outgoing.is_overfull)
                for _ in range(300):
                    assert ours.wire.outgoing.owed_bytes < 8 * OWED_BYTES + READ_AHEAD_BYTES
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
                await until(lambda: ours.wire.outgoing.is_full)
                assert ours.wire.outgoing.owed_bytes < OWED_BYTES + 65536
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
            put, answers, a_turn = ours.wire.outgoing.put, 0, []

            def counted(data: bytes) -> None:
                nonlocal answers
                answers += 1
                put(data)

            ours.wire.outgoing.put = counted  # type: ignore[method-assign]
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
