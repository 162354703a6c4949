"""Opening a stream of a protocol on a connection that is there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
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
    async with given_up_if_broken(stream):
        try:
            await MultiselectClient().select_one_of(
                [TProtocol(protocol)], MultiselectCommunicator(stream), NEGOTIATION_S
            )
        except (*STREAM_ENDED, MultiselectClientError, UnicodeDecodeError) as error:
            raise StreamRefused(f"{connection.peer} does not speak {protocol} ({error})") from error
    stream.set_protocol(TProtocol(protocol))
    return stream


@asynccontextmanager
async def negotiated(connection: Connection, protocol: str) -> AsyncIterator[INetStream]:
    """`negotiate`, and `given_up_if_broken`. Who is done with it closes it."""
    stream = await negotiate(connection, protocol)
    async with given_up_if_broken(stream):
        yield stream


@asynccontextmanager
async def given_up_if_broken(stream: INetStream) -> AsyncIterator[None]:
    """Reset the stream if the body does not get to its end, be it that it is cancelled: nobody else would."""
    try:
        yield
    except BaseException:
        with trio.CancelScope(shield=True):
            await stream.reset()
        raise
