"""The transports of a host, as far as its settings ask for them."""

from collections.abc import Sequence

import trio
from libp2p.abc import ITransport
from libp2p.crypto.ed25519 import create_new_key_pair

from mesh.p2p.addresses import QUIC, WEBRTC
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.layers import Layers
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.settings import HostSettings
from mesh.p2p.host.tcp import ByteDoor, DoorTcp

# A peer that opens too many streams is refused by name (`max_streams_per_peer`) before QUIC makes it wait.
_STREAMS_TO_REFUSE = 32


def make_transports(
    settings: HostSettings,
    bound: Sequence[Bound],
    keeper: Doorkeeper,
    layers: Layers,
    budget: ReceiveBudget,
    nursery: trio.Nursery,
) -> tuple[ByteDoor, list[ITransport]]:
    """The door of connections of bytes, and all transports: those that listen, and TCP and WebSocket always."""
    door = ByteDoor(keeper, layers)
    transports: list[ITransport] = [DoorTcp(door, layers, bound, nursery)]
    if any(one.transport == QUIC for one in bound):
        from mesh.p2p.host.quic.machine import Identity
        from mesh.p2p.host.quic.transport import DoorQuic

        limits = settings.limits
        identity = Identity(
            create_new_key_pair(settings.seed),
            silent_s=limits.silent_s,
            max_streams=limits.max_streams_per_peer + _STREAMS_TO_REFUSE,
        )
        transports.append(DoorQuic(bound, settings.seed, identity, keeper, budget, nursery))
    if any(one.transport == WEBRTC for one in bound):
        from mesh.p2p.host.webrtc.transport import DoorWebRtc

        transports.append(DoorWebRtc(keeper, settings.seed, bound, budget, nursery))
    return door, transports


def announced(bound: Sequence[Bound], seed: bytes) -> Sequence[Bound]:
    """``bound`` with what only a transport knows of its addresses: the digest of WebRTC's certificate."""
    if any(one.transport == WEBRTC for one in bound):
        from mesh.p2p.host.webrtc import transport

        return transport.announced(bound, seed)
    return bound
