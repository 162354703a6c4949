"""What carries the bytes of a connection: a socket, and what may be laid over it (TLS, WebSocket, a network key)."""

from typing import Protocol

READ_AHEAD_BYTES = 64 * 1024


class Channel(Protocol):
    """Bytes both ways, as `trio.SocketStream` has them. One reader and one writer at a time."""

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray:
        """What there is, b"" at the end. Raises trio.BrokenResourceError and trio.ClosedResourceError."""
        ...

    async def send_all(self, data: bytes, /) -> None:
        """Send everything. Raises trio.BrokenResourceError and trio.ClosedResourceError."""
        ...
