"""Turning away who asks for a connection, in one packet and without state (RFC 9000, section 5.2.2)."""

from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicHeader, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder

_DATAGRAM_BYTES = 1200
_CAPACITY = 20


def refuse(header: QuicHeader, code: QuicErrorCode) -> bytes:
    """The answer to a first packet that ends it with ``code``. The client chose the keys of such packets."""
    assert header.version is not None
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=header.version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=_DATAGRAM_BYTES,
        peer_cid=header.source_cid,
        version=header.version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=_CAPACITY)
    for value in (code, QuicFrameType.PADDING, 0):
        frame.push_uint_var(value)
    datagrams, _ = builder.flush()
    return bytes(datagrams[0])
