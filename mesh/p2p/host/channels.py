"""What carries the bytes of a connection: a socket, and what may be laid over it (TLS, WebSocket, a network key)."""

import os
from typing import Protocol

import trio

READ_AHEAD_BYTES = 64 * 1024


class Channel(Protocol):
    """Bytes both ways, as `trio.SocketStream` has them. One reader and one writer at a time."""

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray:
        """What there is, b"" at the end. Raises trio.BrokenResourceError and trio.ClosedResourceError."""
        ...

    async def send_all(self, data: bytes, /) -> None:
        """Send everything. Raises trio.BrokenResourceError and trio.ClosedResourceError."""
        ...


class SocketChannel:
    """A socket that nobody else reads from or writes to, without a turn of the loop where there is nothing to wait for.

    trio's own streams try to read before they wait, which is in vain for who comes back for more, and give up the
    processor after each write.
    """

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket

    def _number(self) -> int:
        number = self._socket.fileno()
        if number < 0:
            raise trio.ClosedResourceError("the socket is closed")
        return number

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """See `Channel`. It is somebody else's turn first."""
        while True:
            await trio.lowlevel.wait_readable(self._number())
            try:
                return os.read(self._number(), max_bytes or READ_AHEAD_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what goes without waiting; return how many bytes that were. Raises as `Channel.send_all`."""
        try:
            return os.write(self._number(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def send_all(self, data: bytes, /) -> None:
        """See `Channel`."""
        left = memoryview(data)
        while left := left[self.send_now(left) :]:
            await trio.lowlevel.wait_writable(self._number())
