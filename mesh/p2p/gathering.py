"""Bytes that come in parts and are wanted as a whole, held once, where joining them would take twice as much."""

from io import BytesIO


class Gathering:
    """What has arrived of a body."""

    __slots__ = ("_buffer", "_first")

    def __init__(self) -> None:
        self._first = b""
        self._buffer: BytesIO | None = None

    def add(self, part: bytes) -> None:
        """More of it."""
        if self._buffer is not None:
            self._buffer.write(part)
        elif self._first:
            self._buffer = BytesIO()
            self._buffer.write(self._first)
            self._buffer.write(part)
            self._first = b""
        else:
            self._first = part

    def take(self) -> bytes:
        """All of it, which is not held here any more."""
        whole = self._first if self._buffer is None else self._buffer.getvalue()  # the buffer's own bytes, not a copy
        self._first, self._buffer = b"", None
        return whole
