"""When the channel of a stream is closed: not before the other side has answered that it is the end."""

from collections.abc import Awaitable, Callable

import pytest
import trio

pytest.importorskip("google_crc32c", reason="the [webrtc] extra is not installed")

from mesh.p2p.host.webrtc.framing import Deframer, Flag, frame
from mesh.p2p.host.webrtc.stream import WebRtcStream


class Channel:
    """What the stream does to its channel."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.times_closed = 0
        self.stream = WebRtcStream(
            None,  # type: ignore[arg-type]
            2,
            put=self.said.extend,
            unsent=lambda: 0,
            on_held=lambda _: None,
            on_over=lambda _: self._close(),
        )

    def _close(self) -> None:
        self.times_closed += 1

    def flags(self) -> list[Flag]:
        return [flag for _, flag in Deframer().feed(bytes(self.said)) if flag is not None]


def with_a_channel(work: Callable[[Channel], Awaitable[None]]) -> Channel:
    channel = Channel()
    trio.run(work, channel)
    return channel


async def end_both_sides(channel: Channel) -> None:
    channel.stream.feed(frame(b"bye", Flag.FIN))
    await channel.stream.close_write()
    assert channel.flags() == [Flag.FIN_ACK, Flag.FIN]
    assert not channel.times_closed


def test_it_is_closed_with_the_answer_to_its_end() -> None:
    channel = with_a_channel(end_both_sides)
    for _ in range(2):
        channel.stream.feed(frame(flag=Flag.FIN_ACK))
        assert channel.times_closed == 1


def test_an_answer_that_comes_before_the_others_end_is_remembered() -> None:
    async def work(channel: Channel) -> None:
        await channel.stream.close_write()
        channel.stream.feed(frame(flag=Flag.FIN_ACK))
        assert not channel.times_closed
        channel.stream.feed(frame(flag=Flag.FIN))

    assert with_a_channel(work).times_closed == 1


def test_who_never_answers_is_not_waited_for_for_ever() -> None:
    channel = with_a_channel(end_both_sides)
    for _ in range(9):
        channel.stream.linger()
    assert channel.times_closed == 1
    assert Flag.RESET not in channel.flags()


@pytest.mark.parametrize("ours", [True, False])
def test_a_reset_needs_no_answer(ours: bool) -> None:
    async def work(channel: Channel) -> None:
        if ours:
            await channel.stream.reset()
        else:
            channel.stream.feed(frame(flag=Flag.RESET))

    assert with_a_channel(work).times_closed == 1
