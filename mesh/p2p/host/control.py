"""The overlay process's end of the link to the node."""

import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import trio

from mesh.p2p.host import wire
from mesh.p2p.host.settings import HostSettings

# A node that is busy loses gossip first. Facts are few: with this many waiting, the node is not alive.
_GOSSIP_BACKLOG = 1000
_BACKLOG = 100_000
_READ_BYTES = 64 * 1024


class Control:
    """Notices out, commands in. ``before_leaving`` is called when the process ends, and must not wait."""

    def __init__(self, link: trio.SocketStream) -> None:
        self.before_leaving: Callable[[], None] = lambda: None
        self._link = link
        self._send: trio.MemorySendChannel[bytes]
        self._receive: trio.MemoryReceiveChannel[bytes]
        self._send, self._receive = trio.open_memory_channel(math.inf)

    def send(self, notice: wire.Notice) -> None:
        """Queue a notice, in order."""
        waiting = self._send.statistics().current_buffer_used
        if isinstance(notice, wire.Gossip) and waiting > _GOSSIP_BACKLOG:
            return
        if waiting > _BACKLOG:
            self.leave()
        self._send.send_nowait(wire.line(notice))

    async def write(self) -> None:
        """Send what is queued, until `finish`."""
        async for first in self._receive:
            parts = [first]
            while self._receive.statistics().current_buffer_used:
                parts.append(self._receive.receive_nowait())
            try:
                await self._link.send_all(b"".join(parts))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.leave()

    async def finish(self) -> None:
        """Return from `write` once everything that was queued is sent."""
        await self._send.aclose()

    def leave(self) -> NoReturn:
        """End the process: the node is gone, there is nobody to work for and nothing to save.

        The kernel closes what it knows as connections. Leaving py-libp2p in an orderly way takes 0.2 s for each, and
        can hang on a peer that does not read.
        """
        self.before_leaving()
        os._exit(0)

    async def leave_when_told(self) -> None:
        """`leave` at SIGTERM."""
        with trio.open_signal_receiver(signal.SIGTERM) as told:
            async for _ in told:
                self.leave()

    async def commands(self) -> AsyncIterator[wire.Command]:
        """The node's commands. `leave` at their end."""
        buffer = bytearray()
        while True:
            try:
                data = await self._link.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data or len(buffer) > wire.MAX_LINE_BYTES:
                self.leave()
            buffer += data
            *lines, rest = buffer.split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                yield wire.decode_command(line)


async def connect_local(settings: HostSettings, stream: int) -> trio.SocketStream:
    """A local connection to the node that has said its Hello."""
    local = await trio.open_unix_socket(settings.socket)
    await local.send_all(wire.line(wire.Hello(settings.token, stream)))
    return local
