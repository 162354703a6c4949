"""A stream between two nodes of one process: two transports joined in memory, under asyncio's reader and writer."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

_HIGH_WATER_BYTES = 64 * 1024
_LOW_WATER_BYTES = 16 * 1024
_READER_LIMIT_BYTES = 64 * 1024

# What travels besides data: the writer ended its side, or let go of both.
_EOF = b""
_CLOSED = None


class MemoryEnd(asyncio.Transport):
    """One end of a stream. Bytes reach the other end in order, ``delay_s()`` later, and not while it is held."""

    def __init__(self, delay_s: Callable[[], float], *, held: bool) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._delay_s = delay_s
        self._due_at = 0.0
        self._inbox: deque[bytes | None] = deque()
        self._inbox_bytes = 0
        self._due = 0
        self._held = held
        self._reading = True
        self._writable = True
        self._wrote_eof = False
        self._far_closed = False
        self._closed = False
        self._far: MemoryEnd = self
        self.reader = asyncio.StreamReader(limit=_READER_LIMIT_BYTES)
        self._protocol = asyncio.StreamReaderProtocol(self.reader)
        self._protocol.connection_made(self)
        self.writer = asyncio.StreamWriter(self, self._protocol, self.reader, self._loop)

    def join(self, far: "MemoryEnd") -> None:
        """Make ``far`` the other end."""
        self._far = far

    def hold(self, held: bool) -> None:
        """Keep what arrives (True), or hand it over and go on (False)."""
        self._held = held
        self._hand_over()

    def lose(self) -> None:
        """The connection under the stream is gone: the reader sees the end at once, the writer fails."""
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            self._protocol.connection_lost(None)

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """See `asyncio.WriteTransport.write`."""
        if self._closed or not data:
            return
        if self._wrote_eof:
            raise RuntimeError("cannot write after write_eof()")
        if self._far_closed:
            self._fail(BrokenPipeError("the peer closed the stream"))
            return
        self._far._arrive(bytes(data))  # noqa: SLF001 - the two ends are one thing
        if self._writable and self._far._inbox_bytes > _HIGH_WATER_BYTES:  # noqa: SLF001
            self._writable = False
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Always: either direction ends on its own."""
        return True

    def write_eof(self) -> None:
        """End our direction; the other goes on."""
        if not self._wrote_eof and not self._closed:
            self._wrote_eof = True
            self._far._arrive(_EOF)  # noqa: SLF001

    def close(self) -> None:
        """Close the stream: what was written still arrives."""
        if not self._closed:
            self._closed = True
            self._far._arrive(_CLOSED)  # noqa: SLF001
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        """Whether this end is closed."""
        return self._closed

    def pause_reading(self) -> None:
        """Let what arrives wait."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand over what waited."""
        self._reading = True
        self._loop.call_soon(self._hand_over)

    def is_reading(self) -> bool:
        """Whether what arrives is handed over."""
        return self._reading and not self._closed

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._far._inbox_bytes  # noqa: SLF001

    def _fail(self, error: OSError) -> None:
        self._closed = True
        self._loop.call_soon(self._protocol.connection_lost, error)

    def _arrive(self, item: bytes | None) -> None:
        self._inbox.append(item)
        self._inbox_bytes += len(item or b"")
        # In order: what was sent again holds up what came after it.
        self._due_at = max(self._due_at, self._loop.time() + self._delay_s())
        self._loop.call_at(self._due_at, self._fall_due)

    def _fall_due(self) -> None:
        self._due += 1
        self._hand_over()

    def _hand_over(self) -> None:
        while self._due and self._inbox and self._reading and not self._held and not self._closed:
            self._due -= 1
            item = self._inbox.popleft()
            self._inbox_bytes -= len(item or b"")
            if item:
                self._protocol.data_received(item)
            else:
                self._far_closed = self._far_closed or item is _CLOSED
                self._protocol.eof_received()
        if self._inbox_bytes <= _LOW_WATER_BYTES:
            self._far._may_write()  # noqa: SLF001

    def _may_write(self) -> None:
        if not self._writable:
            self._writable = True
            self._protocol.resume_writing()


def memory_stream(
    delay: float | Callable[[], float] = 0.0,
    back: Callable[[], float] | None = None,
    *,
    held: bool = False,
) -> tuple[MemoryEnd, MemoryEnd]:
    """The two ends of a new stream.

    ``delay`` is how long each piece travels to the far end, in seconds, or says so for each; ``back``: to the near one.
    """
    delay_s = delay if callable(delay) else lambda: delay
    near, far = MemoryEnd(back or delay_s, held=held), MemoryEnd(delay_s, held=held)
    near.join(far)
    far.join(near)
    return near, far
