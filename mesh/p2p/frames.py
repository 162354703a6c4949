"""Frames on a stream: ``u32 length | u8 kind | u64 call | body``, big-endian. Pure: bytes in, frames out.

``length`` counts what follows it: 9 bytes and the body. What each kind's body holds is in `mesh.p2p.messages`.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from mesh.errors import PeerMisbehaved

HEADER = struct.Struct(">IBQ")
LENGTH_BYTES = 4
OVERHEAD = HEADER.size - LENGTH_BYTES
MAX_CALL = (1 << 64) - 1


class Kind(IntEnum):
    """What a frame is. The opener of a stream makes calls, the acceptor answers them."""

    HELLO = 1  # both: versions, limits, who I am; the first frame of each side
    REQUEST = 2  # opener: a call begins
    BODY = 3  # both: more of a request's or a result's body
    ACCEPTED = 4  # acceptor: the request is admitted
    CHUNK = 5  # acceptor: a piece of the answer
    RESULT = 6  # acceptor: the answer ends well
    ERROR = 7  # both: the call (0: the stream) ends badly
    CANCEL = 8  # opener: no answer is wanted any more
    CREDIT = 9  # both: so many more bytes of the call may be sent
    PING = 10  # opener: are you there
    PONG = 11  # acceptor: yes


_KINDS = {int(kind): kind for kind in Kind}


class Frame(NamedTuple):
    """One frame. ``call`` is 0 where a frame is about the stream itself."""

    kind: Kind
    call: int
    body: bytes


def encode(kind: Kind, call: int, body: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return HEADER.pack(OVERHEAD + len(body), kind, call) + body


class Decoder:
    """Cuts a stream of bytes into frames, however it was cut before.

    It never holds more than one incomplete frame, which is at most ``max_body`` bytes and its header.
    """

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._rest = bytearray()
        self._needed = LENGTH_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes. Raises PeerMisbehaved; then the stream is of no more use."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames: list[Frame] = []
        start, size = 0, len(data)
        while True:
            self._needed = self._bytes_of_frame(data, start, size)
            end = start + self._needed
            if end > size:
                break
            _, kind, call = HEADER.unpack_from(data, start)
            if kind not in _KINDS:
                raise PeerMisbehaved("unknown_kind", f"frame kind {kind} does not exist")
            frames.append(Frame(_KINDS[kind], call, data[start + HEADER.size : end]))
            start = end
        if start < size:
            self._rest += data[start:]
        return frames

    def _bytes_of_frame(self, data: bytes, start: int, size: int) -> int:
        """How long the frame at ``start`` is; as soon as its length is there, the length is checked."""
        if size - start < LENGTH_BYTES:
            return LENGTH_BYTES
        length = int.from_bytes(data[start : start + LENGTH_BYTES], "big")
        if length < OVERHEAD:
            raise PeerMisbehaved("frame_too_short", f"a frame of {length} bytes; the least is {OVERHEAD}")
        if length > OVERHEAD + self._max_body:
            raise PeerMisbehaved(
                "frame_too_large", f"a frame of {length} bytes; the limit is {OVERHEAD + self._max_body}"
            )
        return LENGTH_BYTES + length
