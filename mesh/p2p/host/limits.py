"""How much of us strangers may use."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, rates (a second) and deadlines (seconds); the burst is what an address that was quiet has at once."""

    max_connections: int
    max_inbound: int
    max_streams_per_peer: int
    handshake_s: float
    silent_s: float
    inbound_per_address_per_s: float
    inbound_burst: int = 50
    max_handshakes: int = 128
    max_handshakes_per_address: int = 32
