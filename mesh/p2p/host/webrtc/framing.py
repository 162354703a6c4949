"""Frames of a stream on its data channel: a length, then protobuf with bytes, a flag or both. Pure.

libp2p/specs, webrtc/README.md. A frame may begin in one message of the channel and end in another.
"""

from collections.abc import Iterator
from enum import IntEnum

MAX_FRAME_BYTES = 16 * 1024
# Length prefix, and tag and length of the field.
MAX_PAYLOAD_BYTES = MAX_FRAME_BYTES - 3 - 4
_FLAG, _MESSAGE = 1 << 3, 2 << 3 | 2
_MAX_VARINT_BYTES = 10


class FrameFault(ConnectionError):
    """What came is no frame."""


class Flag(IntEnum):
    """What a side says of a stream besides bytes."""

    FIN = 0
    STOP_SENDING = 1
    RESET = 2
    FIN_ACK = 3


def frame(payload: bytes = b"", flag: Flag | None = None) -> bytes:
    """A frame of at most `MAX_PAYLOAD_BYTES`."""
    body = b"" if flag is None else bytes([_FLAG, flag])
    if payload:
        body += bytes([_MESSAGE]) + _varint(len(payload)) + payload
    return _varint(len(body)) + body


class Deframer:
    """Frames out of bytes as they come."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def held(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Flag | None]]:
        """The payload and flag of each frame that is whole now. Raises FrameFault."""
        self._buffer += data
        at = 0
        try:
            while (found := _read_varint(self._buffer, at)) is not None:
                size, begin = found
                if size > MAX_FRAME_BYTES:
                    raise FrameFault(f"a frame of {size} bytes")
                if begin + size > len(self._buffer):
                    return
                at = begin + size
                yield _taken_apart(self._buffer[begin:at])
        finally:
            self._buffer = self._buffer[at:]


def _taken_apart(body: bytes) -> tuple[bytes, Flag | None]:
    payload, flag, at = b"", None, 0
    while at < len(body):
        tag, at = _must(_read_varint(body, at))
        value, at = (0, at) if tag & 7 in (1, 5) else _must(_read_varint(body, at))
        match tag & 7:
            case 0 if tag == _FLAG:
                flag = Flag(value) if value < len(Flag) else None
            case 1 | 5:
                at += 8 if tag & 7 == 1 else 4
            case 2:
                if tag == _MESSAGE:
                    payload = body[at : at + value]
                at += value
            case 3 | 4 | 6 | 7:
                raise FrameFault("no protobuf")
    if at != len(body):
        raise FrameFault("a field that is longer than its frame")
    return payload, flag


def _must(found: tuple[int, int] | None) -> tuple[int, int]:
    if found is None:
        raise FrameFault("a field that is cut off")
    return found


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _read_varint(data: bytes, at: int) -> tuple[int, int] | None:
    """The number and where it ends; None where it is cut off."""
    value = 0
    for place, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    if len(data) - at >= _MAX_VARINT_BYTES:
        raise FrameFault("a number without an end")
    return None
