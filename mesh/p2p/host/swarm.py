"""The py-libp2p host, made of its public parts, with everything switched off that we do better or do not need."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream, IRawConnection, ISecureTransport, ITransport
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from mesh.p2p.host.limits import Limits
from mesh.p2p.host.muxed import MuxedConnection
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.tls import PROTOCOL_ID as TLS
from mesh.p2p.host.tls import TlsTransport
from mesh.p2p.host.wires import ByteWire, Wire
from mesh.p2p.host.yamux.muxer import YamuxMuxer, current_wire

# `Doorkeeper` gives inbound slots back, and true limits are `Admission`'s: py-libp2p's own must never be the first.
_NO_LIMIT = 10**6
_NEGOTIATION_S = 10.0
# What dialling gives: bytes to be secured and multiplexed, or a connection that is so already.
Dialled: TypeAlias = IRawConnection | MuxedConnection


class DoorSwarm(Swarm):
    """A swarm that tells each `Wire` why its handshake failed."""

    async def upgrade_inbound_raw_conn(self, raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        """See `Swarm.upgrade_inbound_raw_conn`."""
        wire = wire_of(raw_conn)
        try:
            return await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        except Exception as error:
            wire.failure = wire.failure or error
            raise

    def get_connections(self, peer_id: ID | None = None) -> list[INetConn]:
        """Connections that live: py-libp2p lists one for 0.1 s after its end, and opens streams on it."""
        return [conn for conn in super().get_connections(peer_id) if not _is_closed(conn)]

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """Nobody but the node dials: a service that wants a stream to a peer that is gone must not bring it back."""
        raise SwarmException(f"not connected to {peer_id}")

    async def receive(self, wire: ReadWriteCloser) -> None:
        """Secure a connection that somebody made to us without dialling a listener, and serve it until it ends."""
        await self._handle_inbound_connection(wire, Multiaddr("/p2p-circuit"))

    async def secure_and_add(self, dialled: Dialled, peer: ID) -> None:
        """Register a connection that we dialled, upgraded where it must be: is it ``peer``? Raises SwarmException."""
        wire = wire_of(dialled)
        if not isinstance(dialled, MuxedConnection):
            await self.upgrade_outbound_raw_conn(dialled, peer)
            return
        if dialled.peer_id != peer:
            wire.abort("is somebody else")
            raise SwarmException(f"it is {dialled.peer_id}, not {peer}")
        try:
            await self.add_conn(dialled, direction="outbound")
        except BaseException:
            wire.abort("given up")
            raise


class QuietHost(BasicHost):
    """A host that leaves identify to `mesh.p2p.host.identify`, and has addresses that nobody listens on here."""

    more_addresses: Callable[[], list[str]] = staticmethod(list)
    _parsed: tuple[tuple[list[Multiaddr], list[str]], list[Multiaddr]] | None = None

    def get_addrs(self) -> list[Multiaddr]:
        """See `BasicHost.get_addrs`: circuits to us, and ports that a router passes on, are among them.

        py-libp2p asks with each message of gossip that it sends, and parsing them each time was a twentieth of all.
        """
        of = (self.get_transport_addrs(), self.more_addresses())
        if self._parsed is None or self._parsed[0] != of:
            self._parsed = of, [*super().get_addrs(), *multiaddrs(of[1])]
        return list(self._parsed[1])

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """Nothing: py-libp2p would identify a peer once and never again, and tell nobody."""


def make_host(
    seed: bytes,
    transports: Sequence[ITransport],
    limits: Limits,
    budget: ReceiveBudget,
    security: Sequence[str] = ("noise",),
) -> tuple[QuietHost, DoorSwarm]:
    """A host with the identity of ``seed``; over ``transports`` of bytes it speaks Noise or TLS, and Yamux.

    ``budget`` is shared by all that receive.
    """
    key_pair = create_new_key_pair(seed)
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    upgrader = TransportUpgrader(
        secure_transports_by_protocol=dict(_secured(name, key_pair) for name in security),
        muxer_transports_by_protocol={},
    )
    upgrader.muxer_multistream = YamuxMuxer(budget)
    swarm = DoorSwarm(
        peer_id,
        peerstore,
        upgrader,
        transports=list(transports),
        retry_config=RetryConfig(max_retries=0),
        connection_config=ConnectionConfig(
            max_connections=_NO_LIMIT,
            high_watermark=_NO_LIMIT,
            low_watermark=0,
            min_connections=0,
            max_connections_per_peer=_NO_LIMIT,
            inbound_upgrade_timeout=limits.handshake_s,
            outbound_upgrade_timeout=limits.handshake_s,
            inbound_stream_protocol_negotiation_timeout=_NEGOTIATION_S,
            outbound_stream_protocol_negotiation_timeout=_NEGOTIATION_S,
        ),
    )
    return QuietHost(swarm, disable_identify_address_discovery=True), swarm


def _secured(name: str, key_pair: KeyPair) -> tuple[TProtocol, ISecureTransport]:
    if name == "tls":
        return TLS, TlsTransport(key_pair)
    return NOISE, NoiseTransport(key_pair, create_noise_key_pair().private_key)


async def read_up_to(stream: INetStream, limit: int, timeout_s: float) -> bytes:
    """Everything that the peer sends on a stream until it closes. Raises ValueError over ``limit``, TooSlowError."""
    received = bytearray()
    with trio.fail_after(timeout_s):
        while len(received) <= limit:
            try:
                chunk = await stream.read(64 * 1024)
            except EOFError:
                return bytes(received)
            if not chunk:
                return bytes(received)
            received += chunk
    raise ValueError(f"the peer sent more than {limit} bytes")


def _is_closed(conn: INetConn) -> bool:
    muxed = conn.muxed_conn
    return isinstance(muxed, MuxedConnection) and muxed.wire.closed.is_set()


def wire_of(made: Dialled) -> Wire:
    """The wire of a connection that is being upgraded in this task."""
    if isinstance(made, MuxedConnection):
        return made.wire
    wire = made.stream  # type: ignore[attr-defined]
    assert isinstance(wire, ByteWire)
    current_wire.set(wire)
    return wire


def multiaddrs(addresses: Sequence[str]) -> list[Multiaddr]:
    """Parsed addresses; raises ValueError for one that is not a multiaddr."""
    return [Multiaddr(address) for address in addresses]
