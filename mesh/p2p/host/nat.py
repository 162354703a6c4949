"""How this node gets through NATs, as it was told."""

import msgspec

from mesh.p2p.host.relay_book import RelayLimits


class NatSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``relay`` is off, client or server; ``relays`` are multiaddrs that end in ``/p2p/<PeerId>``."""

    relay: str = "off"
    relays: tuple[str, ...] = ()
    hole_punching: bool = False
    autonat: bool = False
    upnp: bool = False
    limits: RelayLimits = RelayLimits(
        max_reservations=128,
        max_reservations_per_address=8,
        reservation_s=3600.0,
        max_circuits=256,
        max_circuits_per_peer=16,
        circuit_s=3600.0,
        circuit_bytes=1 << 30,
    )
