"""What a connection has to send: at once where its channel takes it, and else in order, as the channel takes it."""

from collections import deque
from collections.abc import Callable

import trio

from mesh.p2p.host.channels import Channel, SocketChannel
from mesh.p2p.host.greeting import GreetedChannel

# Data waits for room over this; where answers alone make it so many times as much, nothing more is read.
OWED_BYTES = 128 * 1024
_OVERFULL = 8


class Outgoing:
    """`put` never waits. What the channel does not take at once is owed, and `run` sees to it.

    ``on_broken`` is told once when nothing can be sent any more.
    """

    def __init__(self, channel: Channel, on_broken: Callable[[], None]) -> None:
        self._channel = channel
        self._send_now = _at_once(channel)
        self._on_broken = on_broken
        self._owed: deque[bytes | memoryview] = deque()
        self._ended = False
        self._change = trio.Event()
        self.owed_bytes = 0

    def lay(self, channel: Channel) -> None:
        """From now on bytes go through ``channel``. Nothing is owed yet."""
        self._channel = channel
        self._send_now = _at_once(channel)

    def put(self, data: bytes) -> None:
        """Send it, after all that was put before. What is put after the end is lost."""
        if self._ended:
            return
        sent = 0
        if not self.owed_bytes:
            try:
                sent = self._send_now(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._break()
                return
        if sent < len(data):
            self._owed.append(memoryview(data)[sent:] if sent else data)
            self.owed_bytes += len(data) - sent
            self._tell()

    @property
    def is_full(self) -> bool:
        """Whether so much is owed that no data should be added."""
        return self.owed_bytes >= OWED_BYTES

    @property
    def is_overfull(self) -> bool:
        """Whether even answers should not be added."""
        return self.owed_bytes >= _OVERFULL * OWED_BYTES

    async def room(self) -> None:
        """Return when it `is_full` no more, as after the end."""
        while self.is_full:
            await self._change.wait()

    async def drained(self) -> None:
        """Return when it `is_overfull` no more, as after the end."""
        while self.is_overfull:
            await self._change.wait()

    async def run(self) -> None:
        """Send what is owed, until that fails."""
        while True:
            while not self._owed:
                await self._change.wait()
            some = self._next_owed()
            try:
                await self._channel.send_all(some)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._break()
                return
            self.owed_bytes = max(0, self.owed_bytes - len(some))  # nothing, if it has ended meanwhile
            self._tell()

    def _next_owed(self) -> bytes:
        parts: list[bytes | memoryview] = []
        size = 0
        while self._owed and size < OWED_BYTES // 2:
            parts.append(self._owed.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def _break(self) -> None:
        if not self._ended:
            self.end()
            self._on_broken()

    def end(self) -> None:
        """Forget what is owed, and whatever comes. Again: no-op."""
        self._ended = True
        self._owed.clear()
        self.owed_bytes = 0
        self._tell()

    def _tell(self) -> None:
        self._change.set()
        self._change = trio.Event()


def _at_once(channel: Channel) -> Callable[[bytes], int]:
    return channel.send_now if isinstance(channel, (SocketChannel, GreetedChannel)) else lambda _data: 0
