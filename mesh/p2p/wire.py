"""The I/O of one stream: reads many frames at a time, writes everything that one turn of the loop produced at once."""

import asyncio

from mesh.clock import Clock
from mesh.p2p.frames import Decoder, Frame, Kind
from mesh.p2p.outbox import Lane, Outbox, Piece
from mesh.p2p.overlay import Stream

_READ_BYTES = 256 * 1024
_WRITE_BYTES = 128 * 1024
# An acceptor that owes this much stops reading: the peer asks, and does not take the answers.
_OWED_BYTES = 1 << 20


class Wire:
    """A stream with frames in place of bytes. ``max_body`` is the largest frame body that is taken from the peer.

    ``heard_at`` is when (monotonic) the last complete frame arrived.
    """

    def __init__(self, stream: Stream, max_body: int, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._decoder = Decoder(max_body)
        self._outbox = Outbox(max_body)
        self._wake = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self.heard_at = clock.monotonic()
        self.bytes_in = 0
        self.bytes_out = 0
        self.bytes_saved = 0  # by compression, both ways

    @property
    def max_body(self) -> int:
        """The largest frame body that may be written."""
        return self._outbox.max_body

    def keep_within(self, max_body: int) -> None:
        """The peer takes frame bodies up to ``max_body``."""
        self._outbox.max_body = min(self._outbox.max_body, max_body)

    @property
    def owed_bytes(self) -> int:
        """Bytes of small frames that the peer has not taken yet."""
        return self._outbox.now_bytes

    def put(self, frame: bytes) -> None:
        """Write a small frame, soon."""
        self._outbox.put(frame)
        self._wake.set()

    def add(self, lane: Lane, kind: Kind | None, data: Piece) -> None:
        """Write bytes of a call when it is their turn and there is credit for them."""
        self._outbox.add(lane, kind, data)
        self._wake.set()

    def grant(self, lane: Lane, credit: int) -> None:
        """The peer has room for more of the call."""
        self._outbox.grant(lane, credit)
        self._wake.set()

    async def read(self) -> list[Frame] | None:
        """Frames that arrived, at least what one read gave; None at the end. Raises PeerMisbehaved, OSError."""
        data = await self._stream.reader.read(_READ_BYTES)
        if not data:
            return None
        self.bytes_in += len(data)
        frames = self._decoder.feed(data)
        if frames:
            self.heard_at = self._clock.monotonic()
        return frames

    async def taken(self) -> None:
        """Return once the peer takes what we owe it."""
        if self._outbox.now_bytes > _OWED_BYTES:
            self._calm.clear()
            await self._calm.wait()

    async def write_all(self) -> None:
        """Write whatever there is, for as long as the stream takes it. Raises OSError."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbox:
                await self._write_some()

    async def _write_some(self) -> None:
        data = b"".join(self._outbox.take(_WRITE_BYTES))
        self.bytes_out += len(data)
        self._stream.writer.write(data)
        await self._stream.writer.drain()
        if not self._calm.is_set() and self._outbox.now_bytes <= _OWED_BYTES:
            self._calm.set()

    def close(self, last_words: bytes = b"") -> None:
        """Close the stream, after the small frames that are left and ``last_words``; waits for nothing."""
        if not self._stream.writer.is_closing():
            self._stream.writer.write(b"".join([*self._outbox.take(0), last_words]))
            self._stream.writer.close()
