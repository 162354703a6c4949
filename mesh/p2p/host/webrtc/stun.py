"""As much of STUN (RFC 8489) as an ICE-lite agent needs. Pure.

In WebRTC-direct the password of the listener is its username fragment, which the dialler made up and sends along. So
a request is answered without anything being remembered, with no more bytes than it had.
"""

import hashlib
import hmac
import ipaddress
import struct
import zlib
from dataclasses import dataclass

UFRAG_PREFIX = b"libp2p+webrtc+v"
_COOKIE = 0x2112A442
_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")
_REQUEST, _SUCCESS = 0x0001, 0x0101
_USERNAME, _INTEGRITY, _FINGERPRINT, _XOR_ADDRESS = 0x0006, 0x0008, 0x8028, 0x0020
_PRIORITY, _USE_CANDIDATE, _CONTROLLING = 0x0024, 0x0025, 0x802A
_FINGERPRINT_XOR = 0x5354554E
_HOST_PRIORITY = (126 << 24) + (65535 << 8) + 255  # RFC 8445, section 5.1.2.1
_MAX_BYTES = 1024
_MAX_UFRAG_BYTES = 256


@dataclass(frozen=True)
class Request:
    """A request that is meant for a listener of WebRTC-direct. ``ufrag`` is also the password."""

    transaction: bytes
    ufrag: bytes


def is_stun(datagram: bytes) -> bool:
    """Whether it can be STUN; see RFC 7983."""
    return len(datagram) >= _HEADER.size and datagram[0] < 4


def request_in(datagram: bytes) -> Request | None:
    """The request in a datagram whose integrity holds; None for anything else."""
    message = _taken_apart(datagram, _REQUEST)
    if message is None:
        return None
    transaction, attributes = message
    _, username = attributes.get(_USERNAME, (0, b""))
    ufrag = username.partition(b":")[0]
    if not ufrag.startswith(UFRAG_PREFIX) or len(ufrag) > _MAX_UFRAG_BYTES or not _holds(datagram, attributes, ufrag):
        return None
    return Request(transaction, ufrag)


def answer(request: Request, host: str, port: int) -> bytes:
    """The success response, which tells the sender its address."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    mask = struct.pack(">I", _COOKIE) + request.transaction
    hidden = bytes(a ^ b for a, b in zip(ip.packed, mask, strict=False))
    address = struct.pack(">BBH", 0, 1 if ip.version == 4 else 2, port ^ (_COOKIE >> 16)) + hidden
    return _sealed(_SUCCESS, request.transaction, _attribute(_XOR_ADDRESS, address), request.ufrag)


def request(ufrag: bytes, transaction: bytes, tie_breaker: int) -> bytes:
    """A request of the controlling side, which nominates this pair of addresses at once."""
    attributes = (
        _attribute(_USERNAME, ufrag + b":" + ufrag)
        + _attribute(_PRIORITY, struct.pack(">I", _HOST_PRIORITY))
        + _attribute(_CONTROLLING, struct.pack(">Q", tie_breaker))
        + _attribute(_USE_CANDIDATE, b"")
    )
    return _sealed(_REQUEST, transaction, attributes, ufrag)


def is_answer(datagram: bytes, transaction: bytes, ufrag: bytes) -> bool:
    """Whether it is the success response to our request."""
    message = _taken_apart(datagram, _SUCCESS)
    return message is not None and message[0] == transaction and _holds(datagram, message[1], ufrag)


def _taken_apart(datagram: bytes, kind: int) -> tuple[bytes, dict[int, tuple[int, bytes]]] | None:
    """The transaction, and the first attribute of each type with its position."""
    if not _HEADER.size <= len(datagram) <= _MAX_BYTES:
        return None
    found, length, cookie, transaction = _HEADER.unpack_from(datagram)
    if found != kind or cookie != _COOKIE or length != len(datagram) - _HEADER.size or length % 4:
        return None
    attributes: dict[int, tuple[int, bytes]] = {}
    at = _HEADER.size
    while at + _ATTRIBUTE.size <= len(datagram):
        name, size = _ATTRIBUTE.unpack_from(datagram, at)
        value = datagram[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + size]
        if len(value) != size:
            return None
        attributes.setdefault(name, (at, value))
        at += _ATTRIBUTE.size + (size + 3) // 4 * 4
    return transaction, attributes


def _holds(datagram: bytes, attributes: dict[int, tuple[int, bytes]], password: bytes) -> bool:
    at, claimed = attributes.get(_INTEGRITY, (0, b""))
    return bool(at) and hmac.compare_digest(claimed, _integrity(datagram[:at], password))


def _sealed(kind: int, transaction: bytes, attributes: bytes, password: bytes) -> bytes:
    message = _HEADER.pack(kind, len(attributes), _COOKIE, transaction) + attributes
    message = message[:2] + struct.pack(">H", len(message) - _HEADER.size + 24) + message[4:]
    message += _attribute(_INTEGRITY, _integrity(message, password))
    message = message[:2] + struct.pack(">H", len(message) - _HEADER.size + 8) + message[4:]
    return message + _attribute(_FINGERPRINT, struct.pack(">I", zlib.crc32(message) ^ _FINGERPRINT_XOR))


def _integrity(before: bytes, password: bytes) -> bytes:
    """Over all that comes before the attribute, with the length that would be right if it were the last."""
    length = struct.pack(">H", len(before) - _HEADER.size + 24)
    return hmac.new(password, before[:2] + length + before[4:], hashlib.sha1).digest()


def _attribute(name: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(name, len(value)) + value + bytes(-len(value) % 4)
