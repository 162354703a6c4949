"""Opening a stream of a protocol on a connection that is there."""

from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from mesh.p2p.host.connections import Connection
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.overlay import StreamRefused

NEGOTIATION_S = 10


async def negotiate(connection: Connection, protocol: str) -> INetStream:
    """A stream that speaks ``protocol``. Raises StreamRefused."""
    try:
        stream = await connection.swarm.new_stream()
    except STREAM_ENDED as error:
        raise StreamRefused(f"the connection to {connection.peer} is gone ({error})") from error
    try:
        await MultiselectClient().select_one_of([TProtocol(protocol)], MultiselectCommunicator(stream), NEGOTIATION_S)
    except (*STREAM_ENDED, MultiselectClientError, UnicodeDecodeError) as error:
        await stream.reset()
        raise StreamRefused(f"{connection.peer} does not speak {protocol} ({error})") from error
    stream.set_protocol(TProtocol(protocol))
    return stream
