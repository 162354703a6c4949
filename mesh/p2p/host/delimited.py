"""Small protobuf messages on a stream, each behind its length as a varint: how relays, DCUtR and AutoNAT speak."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from libp2p.abc import INetStream

MAX_BYTES = 8 * 1024
_MAX_VARINT_BYTES = 3
M = TypeVar("M", bound=Message)


class PeerFault(Exception):
    """A peer broke the rules of a protocol: ``rule`` goes into the record, and the peer is dropped."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


async def send_message(stream: INetStream, message: Message) -> None:
    """Write one message."""
    payload = message.SerializeToString()
    await stream.write(_varint(len(payload)) + payload)


async def receive_message(stream: INetStream, kind: type[M], rule: str) -> M:
    """Read one message of at most 8 KiB, and not a byte more. Raises PeerFault with ``rule``; EOFError at an end."""
    size = await _length(stream, rule)
    payload = bytearray()
    while len(payload) < size:
        data = await stream.read(size - len(payload))
        if not data:
            raise EOFError("the stream ended within a message")
        payload += data
    message = kind()
    try:
        message.ParseFromString(bytes(payload))
    except DecodeError as error:
        raise PeerFault(rule, f"not a {kind.__name__}: {error}") from error
    return message


async def _length(stream: INetStream, rule: str) -> int:
    value = 0
    for position in range(_MAX_VARINT_BYTES):
        byte = await stream.read(1)
        if not byte:
            raise EOFError("the stream ended before a message")
        value |= (byte[0] & 0x7F) << (7 * position)
        if not byte[0] & 0x80:
            if value > MAX_BYTES:
                raise PeerFault(rule, f"a message of {value} bytes; the limit is {MAX_BYTES}")
            return value
    raise PeerFault(rule, "the length of a message is no varint of at most three bytes")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
