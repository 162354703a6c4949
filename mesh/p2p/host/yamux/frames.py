"""Yamux's frames. Pure.

https://github.com/hashicorp/yamux/blob/master/spec.md, "Framing", as libp2p uses it.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

PROTOCOL = "/yamux/1.0.0"
# What each side may send on a new stream before the other has given it room.
INITIAL_WINDOW_BYTES = 256 * 1024
_HEADER = Struct("!BBHII")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """What a frame is."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """What it does to its stream, besides."""

    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


_OPENING = Flag.SYN | Flag.ACK
_ENDING = Flag.FIN | Flag.RST


class FrameFault(ValueError):
    """What came is no frame."""


class Frame(NamedTuple):
    """A frame, or a part of one that carries data.

    ``value`` is the number in its header: how many bytes of data it has in all (0 in every part but the first), how
    much room it gives, a ping's number, or why the peer goes. The last part has the flags that end a stream.
    """

    kind: int
    flags: int
    stream: int
    value: int
    data: bytes = b""


def encode(kind: Kind, flags: int, stream: int, value: int, data: bytes | memoryview = b"") -> bytes:
    """A whole frame."""
    return b"".join((_HEADER.pack(0, kind, flags, stream, value), data))


class Parser:
    """Bytes as they come into frames. Data is not kept until its frame is whole."""

    def __init__(self) -> None:
        self._head = b""
        self._stream = 0
        self._left = 0
        self._ending = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` begins, goes on with, or ends. Raises FrameFault."""
        if self._head:
            data = self._head + data
        frames = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                part = data[at : at + self._left]
                self._left -= len(part)
                frames.append(Frame(Kind.DATA, 0 if self._left else self._ending, self._stream, 0, part))
                at += len(part)
            elif end - at < HEADER_BYTES:
                break
            else:
                frames.append(self._begun(data, at))
                at += HEADER_BYTES + len(frames[-1].data)
        self._head = data[at:]
        return frames

    def _begun(self, data: bytes, at: int) -> Frame:
        version, kind, flags, stream, value = _HEADER.unpack_from(data, at)
        if version or kind > Kind.GO_AWAY:
            raise FrameFault(f"a frame of version {version} and kind {kind}")
        if kind != Kind.DATA or not value:
            return Frame(kind, flags, stream, value)
        at += HEADER_BYTES
        part = data[at : at + value]
        self._stream, self._left, self._ending = stream, value - len(part), flags & _ENDING
        return Frame(kind, flags & _OPENING if self._left else flags, stream, value, part)
