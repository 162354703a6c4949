"""Streams that we open for a question, where the peer does not play its part."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.network.stream.net_stream import NetStream, StreamState

from mesh.p2p.host.negotiation import negotiate, negotiated
from mesh.p2p.overlay import StreamRefused
from tests.kit.yamux_pair import Pair, connected, until

PROTOCOL = "/test/1.0.0"
GREETING = b"\x13/multistream/1.0.0\n"
AGREED = GREETING + bytes([len(PROTOCOL) + 1]) + PROTOCOL.encode() + b"\n"
REFUSED = GREETING + b"\x03na\n"


def connection_over(pair: Pair) -> Any:
    async def new_stream() -> NetStream:
        stream = NetStream(await pair.near.open_stream(), None, None)
        await stream.set_state(StreamState.OPEN)
        return stream

    return SimpleNamespace(peer="peer", swarm=SimpleNamespace(new_stream=new_stream))


@pytest.mark.parametrize("says", [b"", GREETING, AGREED], ids=["nothing", "half of it", "yes, and then nothing"])
def test_a_stream_whose_opener_gave_up_is_reset(says: bytes) -> None:
    async def main() -> None:
        async with connected() as pair:

            async def ask() -> None:
                async with negotiated(connection_over(pair), PROTOCOL) as stream:
                    await stream.read(1)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                far = await pair.far.accept_stream()
                await far.write(says)
                await until(lambda: pair.near.held() == 0)
                nursery.cancel_scope.cancel()
            await until(lambda: far.reset_received)  # type: ignore[attr-defined]

    trio.run(main)


def test_a_stream_of_which_the_body_makes_nothing_is_reset() -> None:
    async def main() -> None:
        async with connected() as pair, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ValueError, match="nonsense"):
                    async with negotiated(connection_over(pair), PROTOCOL):
                        raise ValueError("nonsense")

            nursery.start_soon(ask)
            far = await pair.far.accept_stream()
            await far.write(AGREED)
            await until(lambda: far.reset_received)  # type: ignore[attr-defined]

    trio.run(main)


def test_who_does_not_speak_it_is_asked_no_further() -> None:
    async def main() -> None:
        async with connected() as pair, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(StreamRefused, match="does not speak /test"):
                    await negotiate(connection_over(pair), PROTOCOL)

            nursery.start_soon(ask)
            far = await pair.far.accept_stream()
            await far.write(REFUSED)
            await until(lambda: far.reset_received)  # type: ignore[attr-defined]

    trio.run(main)
