"""What is laid over a connection: bytes arrive as they were sent however they are cut, and junk is a broken channel."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mesh.p2p.host.greeting import GREETING, GreetedChannel
from mesh.p2p.host.private import NetworkKeyDiffers, PrivateChannel
from mesh.p2p.host.websocket import WebSocketChannel

KEY = bytes(range(32))
PIECES = st.lists(st.binary(max_size=300), max_size=8)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Script:
    """A channel that gives what it was made with, cut as asked for, and keeps what is sent."""

    def __init__(self, given: bytes = b"", cuts: Sequence[int] = ()) -> None:
        self.given = given
        self.cuts = list(cuts)
        self.sent = b""

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        size = self.cuts.pop(0) if self.cuts else 65536
        data, self.given = self.given[:size], self.given[size:]
        return data

    async def send_all(self, data: bytes, /) -> None:
        self.sent += data


async def everything(channel) -> bytes:
    received = b""
    while data := await channel.receive_some(65536):
        received += data
    return received


@given(PIECES, st.lists(st.integers(1, 40), max_size=50))
def test_a_network_key_gives_back_what_was_sent(pieces: list[bytes], cuts: list[int]) -> None:
    async def main() -> None:
        sender = Script()
        out = PrivateChannel(sender, KEY)
        for piece in (GREETING, *pieces):
            await out.send_all(piece)
        assert GREETING not in sender.sent
        assert await everything(PrivateChannel(Script(sender.sent, cuts), KEY)) == GREETING + b"".join(pieces)

    trio.run(main)


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=50))
def test_without_the_key_nothing_is_let_through(junk: bytes, cuts: list[int]) -> None:
    async def main() -> None:
        for given_, value in ((GREETING + junk, "no key"), (junk, "")):
            with pytest.raises(NetworkKeyDiffers) as raised:
                await everything(PrivateChannel(Script(given_, cuts), KEY))
            assert value in raised.value.value

    trio.run(main)


@given(st.binary(max_size=100), st.lists(st.integers(1, 40), max_size=20))
def test_what_does_not_greet_is_broken_before_it_is_passed_on(junk: bytes, cuts: list[int]) -> None:
    async def main() -> None:
        assert await everything(GreetedChannel(Script(GREETING + junk, cuts))) == GREETING + junk
        if not (GREETING.startswith(junk) or junk.startswith(GREETING)):
            with pytest.raises(trio.BrokenResourceError):
                await everything(GreetedChannel(Script(junk, cuts)))

    trio.run(main)


@given(PIECES, st.lists(st.integers(1, 40), max_size=80))
def test_a_websocket_gives_back_what_was_sent(pieces: list[bytes], cuts: list[int]) -> None:
    async def main() -> None:
        near, server = Script(), Script(UPGRADE, cuts)
        accepted = await WebSocketChannel.accept(server)
        there = await shaken(near)
        for piece in pieces:
            await there.send_all(piece)
        server.given, server.cuts = near.sent, list(cuts)
        assert await everything(accepted) == b"".join(pieces)

    async def shaken(near: Script) -> WebSocketChannel:
        """A client that is past its handshake with a server of its own."""

        class Answering(Script):
            async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
                server = Script(near.sent)
                await WebSocketChannel.accept(server)
                near.sent = b""
                return server.sent

        answering = Answering()

        async def send_all(data: bytes, /) -> None:
            near.sent += data

        answering.send_all = send_all
        return await WebSocketChannel.connect(answering, "here")

    trio.run(main)


@given(st.binary(max_size=400), st.lists(st.integers(1, 40), max_size=50), st.booleans())
def test_junk_is_a_broken_websocket_and_nothing_worse(junk: bytes, cuts: list[int], upgraded: bool) -> None:
    async def main() -> None:
        below = Script(UPGRADE + junk if upgraded else junk, [len(UPGRADE), *cuts] if upgraded else cuts)
        try:
            channel = await WebSocketChannel.accept(below)
            assert upgraded
            assert len(await everything(channel)) <= len(junk)
        except trio.BrokenResourceError:
            pass

    trio.run(main)
