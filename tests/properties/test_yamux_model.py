"""Two ends of ours on which many streams are opened, written, read, cancelled, closed and reset in any order."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from mesh.p2p.host.yamux.connection import YamuxConnection
from mesh.p2p.host.yamux.stream import YamuxStream
from tests.kit.effort import times
from tests.kit.yamux_pair import connected

WRITES = [0, 1, 10, 1000, 70_000, 300_000, 1_200_000]
READS = [None, -1, 1, 100, 65536, 1 << 20]


@dataclass
class End:
    """What was done at one end of a stream: ``sent`` for certain, then perhaps a part of ``begun``."""

    sent: bytearray = field(default_factory=bytearray)
    begun: bytes = b""
    finished: bool = False
    got: bytearray = field(default_factory=bytearray)
    heard_the_end: bool = False
    gave_up: bool = False


async def turns(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def cancel_after(count: int, scope: trio.CancelScope) -> None:
    await turns(count)
    scope.cancel()


class Play:
    """One end of one stream, as ``luck`` has it, until both directions are over."""

    def __init__(self, luck: random.Random, stream: YamuxStream, mine: End, theirs: End) -> None:
        self._luck = luck
        self._stream = stream
        self._mine = mine
        self._theirs = theirs
        self._nursery: trio.Nursery

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._follow)
            async with trio.open_nursery() as directions:
                directions.start_soon(self._write)
                directions.start_soon(self._read)
            self._nursery.cancel_scope.cancel()
        await self._stream.close()

    async def _follow(self) -> None:
        """Who is not listened to any more may wait for ever: it gives up."""
        while not self._theirs.gave_up:
            await turns(1)
        await turns(100)
        self._mine.gave_up = True
        await self._stream.reset()

    async def _now_and_then_cancelled(self, what: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        if self._luck.random() > 0.1:
            return await what()
        with trio.CancelScope() as scope:
            self._nursery.start_soon(cancel_after, self._luck.randint(0, 6), scope)
            return await what()
        return None

    async def _write(self) -> None:
        mine = self._mine
        try:
            for _ in range(self._luck.randint(0, 6)):
                mine.begun = self._luck.randbytes(self._luck.choice(WRITES))
                if not await self._now_and_then_cancelled(self._write_it):
                    break
                await turns(self._luck.choice([0, 0, 1, 5]))
        except (MuxedStreamReset, MuxedStreamClosed):
            return
        await self._end_writing()

    async def _write_it(self) -> bytes:
        await self._stream.write(self._mine.begun)
        self._mine.sent += self._mine.begun
        self._mine.begun = b""
        return b"done"

    async def _end_writing(self) -> None:
        match self._luck.choice(["end"] * 7 + ["reset", "close"]):
            case "reset":
                self._mine.gave_up = True
                await self._stream.reset()
            case "close":
                self._mine.gave_up = True
                await self._stream.close()
            case _:
                self._mine.finished = not self._mine.begun
                await self._stream.close_write()

    async def _read(self) -> None:
        enough = self._luck.choice([1 << 30] * 8 + [0, 1000, 100_000])
        try:
            while len(self._mine.got) < enough:
                await self._now_and_then_cancelled(self._read_some)
                await turns(self._luck.choice([0, 0, 0, 1, 10]))
        except MuxedStreamEOF:
            self._mine.heard_the_end = True
        except MuxedStreamReset:
            pass
        else:
            self._mine.gave_up = True
            await self._stream.close()

    async def _read_some(self) -> bytes:
        data = await self._stream.read(self._luck.choice(READS))
        self._mine.got += data
        return data


async def open_and_play(
    luck: random.Random, opener: YamuxConnection, accepter: YamuxConnection, ends: list[tuple[End, End]]
) -> None:
    """As many streams as luck has it, each played at both ends."""
    count = luck.randint(0, 8)
    opened: dict[int, tuple[End, End]] = {}

    async def open_one() -> None:
        await turns(luck.randint(0, 20))
        stream = await opener.open_stream()
        near, far = opened[stream.number] = End(), End()
        ends.append((near, far))
        await Play(random.Random(luck.random()), stream, near, far).run()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(open_one)
        for _ in range(count):
            stream = await accepter.accept_stream()
            assert isinstance(stream, YamuxStream)
            near, far = opened[stream.number]
            nursery.start_soon(Play(random.Random(luck.random()), stream, far, near).run)


def check(writer: End, reader: End) -> None:
    assert (bytes(writer.sent) + writer.begun).startswith(bytes(reader.got))
    if writer.finished and not (writer.gave_up or reader.gave_up):
        assert reader.heard_the_end
        assert reader.got == writer.sent


@pytest.mark.parametrize("seed", range(times(500, 20)))
def test_what_is_read_is_what_was_written_everybody_wakes_and_nothing_is_left(seed: int) -> None:
    async def main() -> None:
        luck = random.Random(seed)
        ends: list[tuple[End, End]] = []
        async with connected() as pair:
            pair.near.rtt = pair.far.rtt = luck.choice([0.0, 10.0])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_and_play, luck, pair.near, pair.far, ends)
                nursery.start_soon(open_and_play, luck, pair.far, pair.near, ends)
            for near, far in ends:
                check(near, far)
                check(far, near)
            for one in (pair.near, pair.far):
                while one._streams:
                    await trio.sleep(0.001)
                assert not one.is_closed
                assert not one._left
                assert one.held() == 0

    trio.run(main)
