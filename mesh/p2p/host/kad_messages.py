"""libp2p's Kademlia messages: bounded, and read without trust."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from libp2p.utils import varint
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from mesh.p2p.addresses import is_peer_id

MAX_BYTES = 32 * 1024
MAX_PEERS = 20
MAX_ADDRESSES = 8
MAX_KEY_BYTES = 80
TIMEOUT_S = 5.0

FIND_NODE = Message.MessageType.FIND_NODE
GET_PROVIDERS = Message.MessageType.GET_PROVIDERS
ADD_PROVIDER = Message.MessageType.ADD_PROVIDER
PING = Message.MessageType.PING
GET_VALUE = Message.MessageType.GET_VALUE

Peers = Mapping[str, tuple[str, ...]]


class KadFault(ValueError):
    """The peer sent what is no message of this protocol."""


@dataclass(frozen=True)
class Kad:
    """One message: ``closer`` are peers nearer to the key, ``providers`` those that provide it."""

    kind: int
    key: bytes = b""
    closer: Peers = field(default_factory=dict)
    providers: Peers = field(default_factory=dict)


def encode(message: Kad) -> bytes:
    """The message with its length."""
    raw = Message(type=message.kind, key=message.key)  # type: ignore[arg-type]
    for listed, peers in ((raw.closerPeers, message.closer), (raw.providerPeers, message.providers)):
        for peer, addresses in list(peers.items())[:MAX_PEERS]:
            packed = [raw_address for one in addresses[:MAX_ADDRESSES] if (raw_address := _packed(one, peer))]
            listed.add(id=ID.from_base58(peer).to_bytes(), addrs=packed)
    body = raw.SerializeToString()
    return varint.encode_uvarint(len(body)) + body


def decode(body: bytes) -> Kad:
    """A message without its length. Raises KadFault; peers and addresses that are none are left out."""
    raw = Message()
    try:
        raw.ParseFromString(body)
    except DecodeError as error:
        raise KadFault(f"not a Kademlia message: {error}") from error
    if len(raw.key) > MAX_KEY_BYTES:
        raise KadFault(f"a key of {len(raw.key)} bytes; the limit is {MAX_KEY_BYTES}")
    return Kad(raw.type, raw.key, _peers(raw.closerPeers), _peers(raw.providerPeers))


async def read(stream: INetStream, buffer: bytearray) -> Kad | None:
    """The next message; None at the end of the stream. ``buffer`` keeps what was read beyond it.

    Raises KadFault, and TooSlowError after 5 s without one.
    """
    with trio.fail_after(TIMEOUT_S):
        while (size := _size(buffer)) is None or len(buffer) < sum(size):
            try:
                data = await stream.read(MAX_BYTES)
            except EOFError:
                data = b""
            if not data:
                if buffer:
                    raise EOFError("the stream ended within a message")
                return None
            buffer += data
    head, length = size
    body = bytes(buffer[head : head + length])
    del buffer[: head + length]
    return decode(body)


def _size(buffer: bytearray) -> tuple[int, int] | None:
    """Bytes of the length itself, and what it says; None while it is not whole."""
    value = 0
    for index, byte in enumerate(buffer[:4]):
        value |= (byte & 0x7F) << (7 * index)
        if value > MAX_BYTES:
            raise KadFault(f"a message of {value} bytes or more; the limit is {MAX_BYTES}")
        if byte < 0x80:
            return index + 1, value
    if len(buffer) >= 4:
        raise KadFault("a length of more than 4 bytes")
    return None


def _peers(listed: "Sequence[Message.Peer]") -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in listed[:MAX_PEERS]:
        peer = ID(one.id).to_base58() if len(one.id) <= 64 else ""
        if is_peer_id(peer):
            texts = (_text(raw, peer) for raw in one.addrs[:MAX_ADDRESSES])
            found[peer] = tuple(text for text in texts if text)
    return found


def _packed(address: str, peer: str) -> bytes:
    try:
        return bytes(Multiaddr(address.removesuffix(f"/p2p/{peer}")).to_bytes())
    except (MultiaddrError, ValueError, LookupError):
        return b""


def _text(raw: bytes, peer: str) -> str:
    try:
        text = str(Multiaddr(raw))
    except (MultiaddrError, ValueError, LookupError):
        return ""
    return text if text.endswith(f"/p2p/{peer}") else f"{text}/p2p/{peer}"
