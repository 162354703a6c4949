"""libp2p's identify, asked once per connection, bounded, and told to the node."""

from collections.abc import Callable
from typing import cast

from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify import identify
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.utils import varint
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from mesh.p2p.host.connections import Connection
from mesh.p2p.host.muxed import MuxedConnection
from mesh.p2p.host.negotiation import negotiated
from mesh.p2p.host.swarm import read_up_to
from mesh.p2p.overlay import Identified, StreamRefused

MAX_BYTES = 64 * 1024
MAX_ADDRESSES = 32
MAX_PROTOCOLS = 128
MAX_AGENT_CHARACTERS = 128
_TIMEOUT_S = 10.0
IDENTIFY: TProtocol = identify.ID
PUSH: TProtocol = ID_PUSH


class Identifier:
    """Answers who we are, asks who they are."""

    def __init__(self, host: BasicHost, agent: str, report: Callable[[Identified], None]) -> None:
        self._host = host
        self._report = report
        identify.AGENT_VERSION = agent
        host.set_stream_handler(IDENTIFY, self.answer)
        host.set_stream_handler(PUSH, self.take_push)

    async def answer(self, stream: INetStream) -> None:
        """Say who we are, and where this connection comes from; py-libp2p would name a circuit beside it."""
        wire = cast("MuxedConnection", stream.muxed_conn).wire
        await stream.write(self._message(Multiaddr(wire.address)))
        await stream.close()

    def _message(self, observed: Multiaddr | None) -> bytes:
        payload = identify._mk_identify_protobuf(self._host, observed).SerializeToString()  # noqa: SLF001 - it has no other
        return varint.encode_uvarint(len(payload)) + payload

    async def ask(self, connection: Connection, stream: INetStream) -> Identified:
        """Read the peer's answer on an identify stream that we opened, and report it.

        Raises StreamRefused when the stream ended before a word was said, as it does when the peer hangs up.
        """
        try:
            payload = await read_up_to(stream, MAX_BYTES, _TIMEOUT_S)
            if not payload:
                raise StreamRefused(f"{connection.peer} did not say what it is")
            identified = parse(connection.peer, payload)
            connection.observed = observed_in(payload)
            connection.protocols = frozenset(identified.protocols)
            self._report(identified)
            return identified
        finally:
            await stream.close()

    async def push(self, connection: Connection) -> None:
        """Tell a peer of a change. Raises StreamRefused and what streams raise when they end."""
        if PUSH not in connection.protocols:
            return
        async with negotiated(connection, PUSH) as stream:
            await stream.write(self._message(None))
            await stream.close()

    async def take_push(self, stream: INetStream) -> None:
        """The peer tells of a change by itself; one that hangs up before it says a word tells of none."""
        try:
            payload = await read_up_to(stream, MAX_BYTES, _TIMEOUT_S)
            if payload:
                self._report(parse(str(stream.muxed_conn.peer_id), payload))
        finally:
            await stream.close()


def parse(peer: str, payload: bytes) -> Identified:
    """What an identify message says. Raises ValueError when it is malformed; addresses that are none are left out."""
    message = Identify()
    try:
        length, used = varint.decode_varint_with_size(payload)
        message.ParseFromString(payload[used : used + length])
    except DecodeError as error:
        raise ValueError(f"not an identify message: {error}") from error
    return Identified(
        peer=peer,
        agent=message.agent_version[:MAX_AGENT_CHARACTERS],
        protocols=tuple(str(protocol) for protocol in message.protocols[:MAX_PROTOCOLS]),
        addresses=tuple(
            f"{address}/p2p/{peer}"
            for address in map(readable, message.listen_addrs[:MAX_ADDRESSES])
            if address is not None
        ),
    )


def observed_in(payload: bytes) -> str:
    """Our address as the sender of a (valid) identify message sees it; empty when it does not say."""
    length, used = varint.decode_varint_with_size(payload)
    message = Identify()
    message.ParseFromString(payload[used : used + length])
    return str(readable(message.observed_addr) or "") if message.observed_addr else ""


def readable(raw: bytes) -> Multiaddr | None:
    """A multiaddr that a peer sent, or None where it is none."""
    try:
        address = Multiaddr(raw)
        str(address)
    except (MultiaddrError, ValueError, LookupError):
        return None
    return address
