"""How much of us strangers may use."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, rates (a second) and deadlines (seconds); the burst is what an address that was quiet has at once.

    ``own_networks`` are those whose connections are not counted by subnet. ``max_streams`` are those that all peers
    together may have opened, ``max_receive_bytes`` what all of them may have sent that the node has not taken yet.
    """

    max_connections: int
    max_inbound: int
    max_streams_per_peer: int
    handshake_s: float
    silent_s: float
    inbound_per_address_per_s: float
    inbound_burst: int = 50
    max_inbound_per_subnet: int = 10**6
    subnet_ipv4_bits: int = 24
    subnet_ipv6_bits: int = 64
    own_networks: tuple[str, ...] = ()
    max_streams: int = 10**6
    max_receive_bytes: int = 1 << 40
    max_handshakes: int = 128
    max_handshakes_per_address: int = 32
