"""Writing to a libp2p stream for as long as the peer takes to read."""

from typing import Any

import trio
from libp2p.abc import INetStream

_WINDOW_POLL_S = 0.005


async def send(stream: INetStream, data: bytes) -> None:
    """Write all of ``data``, waiting for the peer's window: py-libp2p gives up, and the stream with it, after 5 s."""
    muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
    sent = 0
    while sent < len(data):
        while muxed.send_window <= 0 and not muxed.closed:  # noqa: ASYNC110 - it has no event
            await trio.sleep(_WINDOW_POLL_S)
        part = data[sent : sent + max(muxed.send_window, 1)]
        await stream.write(part)
        sent += len(part)


def lost(stream: INetStream) -> bool:
    """Whether the stream was reset or its connection lost: py-libp2p reports both as an ordinary end."""
    muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
    return bool(muxed.reset_received or muxed.muxed_conn.event_shutting_down.is_set())
