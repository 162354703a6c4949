"""Streams of WebRTC-direct between two ends in one loop, over loopback."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamReset
from multiaddr import Multiaddr

pytest.importorskip("google_crc32c", reason="the [webrtc] extra is not installed")

from mesh.config import OverlayConfig
from mesh.p2p.host.admission import Admission
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.listening import bind
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.webrtc import channels
from mesh.p2p.host.webrtc.connection import WebRtcConnection
from mesh.p2p.host.webrtc.link import WINDOW_BYTES
from mesh.p2p.host.webrtc.stream import SEND_BYTES, WebRtcStream
from mesh.p2p.host.webrtc.transport import DoorWebRtc, announced
from mesh.p2p.host_config import limits

WITHIN_S = 40.0


@dataclass
class Pair:
    """Both ends of a connection, and the listener's budget."""

    near: WebRtcConnection
    far: WebRtcConnection
    budget: ReceiveBudget
    refused: list[object] = field(default_factory=list)

    async def stream(self) -> tuple[WebRtcStream, WebRtcStream]:
        near = await self.near.open_stream()
        await near.write(b"!")
        far = await self.far.accept_stream()
        assert await far.read(1) == b"!"
        return near, far  # type: ignore[return-value]


@asynccontextmanager
async def connected(budget_bytes: int = 1 << 28) -> AsyncIterator[Pair]:
    async with trio.open_nursery() as nursery:
        found: list[WebRtcConnection] = []
        keeper = Doorkeeper(
            Admission(limits(OverlayConfig())),
            handshake_s=WITHIN_S,
            outbound=lambda: 0,
            on_refused=lambda *_: None,
            on_unsettled=lambda _: None,
        )

        async def take(connection: WebRtcConnection) -> None:
            settle(connection)
            found.append(connection)
            await trio.sleep_forever()

        def settle(connection: WebRtcConnection) -> None:
            connection.wire.settled = True
            keeper.settle(connection.wire)

        bound = announced(bind(["/ip4/127.0.0.1/udp/0/webrtc-direct"]), bytes(32))
        budget = ReceiveBudget(budget_bytes)
        here = DoorWebRtc(keeper, bytes([1] * 32), [], ReceiveBudget(1 << 28), nursery)
        there = DoorWebRtc(keeper, bytes(32), bound, budget, nursery)
        listener = there.create_listener(take)  # type: ignore[arg-type]
        address = Multiaddr(bound[0].address)
        await listener.listen(address)
        with trio.fail_after(WITHIN_S):
            near = await here.dial(address)
            settle(near)  # type: ignore[arg-type]
            await until(lambda: found)
            yield Pair(near, found[0], budget)  # type: ignore[arg-type]
        await near.close()
        await listener.close()
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.005)


def over_loopback(work: Callable[[Pair], Awaitable[None]], **settings: int) -> None:
    async def main() -> None:
        async with connected(**settings) as pair:
            await work(pair)

    trio.run(main)


async def all_of(stream: WebRtcStream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.read(1 << 16)
    except MuxedStreamEOF:
        return received


def test_each_direction_ends_on_its_own_and_then_nothing_is_left_of_the_stream() -> None:
    async def work(pair: Pair) -> None:
        near, far = await pair.stream()
        await near.write(b"question")
        await near.close_write()
        assert await all_of(far) == b"question"
        await far.write(b"answer" * 10_000)
        await far.close()
        assert await all_of(near) == b"answer" * 10_000
        for end in (pair.near, pair.far):
            await until(lambda end=end: not list(end._channels) and not end._channels._closing)
            assert end.held() == 0

    over_loopback(work)


def test_a_reset_ends_both_directions_and_wakes_who_waits() -> None:
    async def work(pair: Pair) -> None:
        near, far = await pair.stream()
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(MuxedStreamReset):
                    await far.read(1)

            nursery.start_soon(wait)
            await near.reset()
        assert far.reset_received
        with pytest.raises(MuxedStreamReset):
            await far.write(b"x")

    over_loopback(work)


def test_what_is_not_read_stops_its_sender_and_no_more_is_held_than_the_window() -> None:
    async def work(pair: Pair) -> None:
        near, far = await pair.stream()
        sent = bytes(range(256)) * 4096 * 4
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write, sent)
            await until(lambda: pair.far.held() >= WINDOW_BYTES // 2)
            await until(lambda: pair.near.link.association.sender.peer_window < 2048)  # it was told to stop
            assert pair.far.held() <= WINDOW_BYTES + (1 << 17)
            await until(lambda: near.send_window == 0)
            assert near._unsent() <= SEND_BYTES + (1 << 15)
            received = b""
            while len(received) < len(sent):
                received += await far.read(1 << 16)
        assert received == sent
        assert pair.far.held() == 0

    over_loopback(work)


def test_an_abort_is_at_once_whoever_writes_and_the_other_hears_of_it() -> None:
    async def work(pair: Pair) -> None:
        near, _ = await pair.stream()
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                with pytest.raises(MuxedStreamReset):
                    await near.write(bytes(8 << 20))

            nursery.start_soon(pour)
            await until(lambda: near.send_window == 0)
            pair.near.wire.abort("enough")
            assert pair.near.event_shutting_down.is_set()
        await pair.far.event_shutting_down.wait()
        assert pair.far.wire.end_reason == "closed by the peer"
        with pytest.raises(MuxedConnUnavailable):
            await pair.near.open_stream()
        with pytest.raises(MuxedConnUnavailable):
            await pair.far.accept_stream()

    over_loopback(work)


def test_who_holds_the_most_is_given_up_when_all_together_are_too_much() -> None:
    async def work(pair: Pair) -> None:
        near, _ = await pair.stream()
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                with pytest.raises(MuxedStreamReset):
                    await near.write(bytes(8 << 20))

            nursery.start_soon(pour)
        assert pair.far.refusal is not None
        assert pair.far.refusal.rule == "max_receive_bytes"
        assert pair.budget.total == 0

    over_loopback(work, budget_bytes=100_000)


def test_a_flood_of_channels_and_nonsense_on_one_are_the_peers_fault() -> None:
    async def flood(pair: Pair) -> None:
        for _ in range(channels.MAX_CHANNELS + 1):
            pair.near._channels.open()
        pair.near.link.flush()
        await pair.far.event_shutting_down.wait()
        assert "channels" in pair.far.fault or "faster" in pair.far.fault

    async def nonsense(pair: Pair) -> None:
        near, _ = await pair.stream()
        pair.near.link.put(near.channel, channels.BINARY, b"\xff" * 20)
        pair.near.link.flush()
        await pair.far.event_shutting_down.wait()
        assert pair.far.fault

    over_loopback(flood)
    over_loopback(nonsense)


def test_a_question_whether_it_lives_is_answered() -> None:
    async def work(pair: Pair) -> None:
        before = pair.near.wire.heard_at = 0.0
        await pair.near.ask_for_life()
        await until(lambda: pair.near.wire.heard_at > before)
        pair.near.unreachable()  # somebody says so
        await until(lambda: pair.near.link._doubt.until is None)
        assert not pair.near.wire.closed.is_set()

    over_loopback(work)


def test_who_goes_on_sending_where_nobody_reads_is_broken_off() -> None:
    async def work(pair: Pair) -> None:
        near, far = await pair.stream()
        near._obey = lambda _: None  # it takes no notice
        await far.close()
        for _ in range(4):
            pair.far._tidy()
        assert not list(pair.far._channels)
        await until(lambda: near.reset_received)

    over_loopback(work)


def test_a_peer_whose_port_is_closed_is_asked_and_then_gone() -> None:
    async def work(pair: Pair) -> None:
        pair.near.link._send.__self__.close()  # type: ignore[attr-defined] # as a process that is killed leaves it
        await pair.far.ask_for_life()
        await pair.far.event_shutting_down.wait()
        assert pair.far.wire.end_reason == "closed by the peer"

    over_loopback(work)
