"""Packets of SCTP and their chunks: RFC 9260, section 3. Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c

PORT = 5000
_HEADER = struct.Struct(">HHI")
HEADER_BYTES = 12
_CHUNK = struct.Struct(">BBH")
_DATA = struct.Struct(">BBHIHHI")
DATA_HEADER_BYTES = _DATA.size

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK = range(9)
COOKIE_ECHO, COOKIE_ACK = 10, 11
SHUTDOWN_COMPLETE = 14
RE_CONFIG = 130

END, BEGIN, UNORDERED, AT_ONCE = 1, 2, 4, 8
_MAX_PARAMETERS = 32


class SctpFault(ConnectionError):
    """What came cannot be SCTP, or not what was agreed."""


@dataclass(frozen=True, slots=True)
class Data:
    """A chunk of DATA: a message, or a piece of one."""

    tsn: int
    stream: int
    sequence: int
    protocol: int
    payload: bytes
    flags: int

    def encode(self) -> bytes:
        """Its bytes in a packet."""
        size = _DATA.size + len(self.payload)
        head = _DATA.pack(DATA, self.flags, size, self.tsn, self.stream, self.sequence, self.protocol)
        return head + self.payload + bytes(-size % 4)

    @property
    def packed_bytes(self) -> int:
        """What it takes up in a packet."""
        return (_DATA.size + len(self.payload) + 3) & ~3


@dataclass(frozen=True, slots=True)
class Sack:
    """What has arrived: all up to ``cumulative``, and the ranges ``gaps``, as offsets from it, both ends included."""

    cumulative: int
    window: int
    gaps: tuple[tuple[int, int], ...] = ()

    def encode(self) -> bytes:
        """Its bytes in a packet."""
        body = struct.pack(">IIHH", self.cumulative, self.window, len(self.gaps), 0)
        return chunk(SACK, body + b"".join(struct.pack(">HH", *gap) for gap in self.gaps))


@dataclass(frozen=True, slots=True)
class Init:
    """What INIT and INIT ACK tell of a side."""

    tag: int
    window: int
    outbound: int
    inbound: int
    tsn: int
    cookie: bytes = b""

    def encode(self, kind: int) -> bytes:
        """Its bytes in a packet. Streams can be reset (RFC 6525), nothing else is offered."""
        body = struct.pack(">IIHHI", self.tag, self.window, self.outbound, self.inbound, self.tsn)
        body += parameter(0x8008, bytes([RE_CONFIG]))
        return chunk(kind, body + (parameter(7, self.cookie) if kind == INIT_ACK else b""))


def chunk(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    """A chunk of any kind."""
    return _CHUNK.pack(kind, flags, _CHUNK.size + len(body)) + body + bytes(-len(body) % 4)


def parameter(kind: int, value: bytes) -> bytes:
    """A parameter of a chunk."""
    return struct.pack(">HH", kind, 4 + len(value)) + value + bytes(-len(value) % 4)


def parameters(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The parameters of a chunk. Raises SctpFault."""
    at = number = 0
    while at + 4 <= len(body):
        kind, size = struct.unpack_from(">HH", body, at)
        number += 1
        if size < 4 or at + size > len(body) or number > _MAX_PARAMETERS:
            raise SctpFault(f"a parameter of {size} bytes")
        yield kind, body[at + 4 : at + size]
        at += (size + 3) & ~3


def packet(tag: int, chunks: bytes) -> bytes:
    """A packet with its checksum, which is the only field in the other byte order."""
    head = _HEADER.pack(PORT, PORT, tag)
    sum_ = google_crc32c.value(head + bytes(4) + chunks)
    return head + struct.pack("<I", sum_) + chunks


def taken_apart(data: bytes) -> tuple[int, list[tuple[int, int, bytes]]]:
    """The verification tag, and kind, flags and body of each chunk. Raises SctpFault."""
    if len(data) < HEADER_BYTES + _CHUNK.size:
        raise SctpFault(f"a packet of {len(data)} bytes")
    _, _, tag = _HEADER.unpack_from(data)
    if struct.pack("<I", google_crc32c.value(data[:8] + bytes(4) + data[12:])) != data[8:12]:
        raise SctpFault("a wrong checksum")
    chunks = []
    at = HEADER_BYTES
    while at + _CHUNK.size <= len(data):
        kind, flags, size = _CHUNK.unpack_from(data, at)
        if size < _CHUNK.size or at + size > len(data):
            raise SctpFault(f"a chunk of {size} bytes")
        chunks.append((kind, flags, data[at + _CHUNK.size : at + size]))
        at += (size + 3) & ~3
    return tag, chunks


def data_in(flags: int, body: bytes) -> Data:
    """A chunk of DATA. Raises SctpFault."""
    if len(body) <= _DATA.size - _CHUNK.size:
        raise SctpFault("data without bytes")
    tsn, stream, sequence, protocol = struct.unpack_from(">IHHI", body)
    return Data(tsn, stream, sequence, protocol, body[12:], flags)


def sack_in(body: bytes) -> Sack:
    """A chunk of SACK. Raises SctpFault."""
    if len(body) < 12:
        raise SctpFault("a SACK that is too short")
    cumulative, window, gaps, _ = struct.unpack_from(">IIHH", body)
    if len(body) < 12 + 4 * gaps:
        raise SctpFault("a SACK that is too short for its gaps")
    return Sack(cumulative, window, tuple(struct.iter_unpack(">HH", body[12 : 12 + 4 * gaps])))


def init_in(body: bytes) -> Init:
    """A chunk of INIT or INIT ACK. Raises SctpFault."""
    if len(body) < 16:
        raise SctpFault("an INIT that is too short")
    tag, window, outbound, inbound, tsn = struct.unpack_from(">IIHHI", body)
    if not tag or not outbound or not inbound:
        raise SctpFault("an INIT without a tag or streams")
    cookie = next((value for kind, value in parameters(body[16:]) if kind == 7), b"")
    return Init(tag, window, outbound, inbound, tsn, cookie)


def before(a: int, b: int) -> bool:
    """Whether TSN ``a`` comes before ``b``: serial numbers of RFC 1982."""
    return a != b and (b - a) & 0xFFFFFFFF < 1 << 31


def after(tsn: int, count: int = 1) -> int:
    """The TSN so many further on."""
    return (tsn + count) & 0xFFFFFFFF
