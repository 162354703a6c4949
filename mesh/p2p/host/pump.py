"""Joins a libp2p stream to its local connection: bytes go both ways unparsed, and so do ends."""

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException

from mesh.p2p.host.channels import SocketChannel
from mesh.p2p.host.muxed import lost
from mesh.p2p.host.yamux.stream import MAX_DATA_BYTES

# One frame of Yamux in one message of Noise. 64 KiB took two of each.
CHUNK_BYTES = MAX_DATA_BYTES
# How long a peer may go on sending on a stream that the node let go of.
_LINGER_S = 10.0
STREAM_ENDED = (EOFError, IOException, BaseLibp2pError, KeyError)
_LOCAL_ENDED = (trio.BrokenResourceError, trio.ClosedResourceError)


class Pump:
    """One stream and one local connection until both directions have ended, or either side breaks."""

    def __init__(self, stream: INetStream, local: trio.SocketStream, closed_by_node: trio.Event) -> None:
        self._stream = stream
        self._muxed = stream.muxed_stream  # type: ignore[attr-defined]  # its locks are of no use to us
        self._socket = local.socket
        self._local = SocketChannel(local.socket)
        self._node_listens = True
        self._broken = False
        self._scope = trio.CancelScope()
        self._closed_by_node = closed_by_node

    async def run(self) -> None:
        """Return when the stream is over; then it is closed on both sides."""
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._linger)
                async with trio.open_nursery() as directions:
                    directions.start_soon(self._to_peer)
                    directions.start_soon(self._to_node)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                self._socket.close()
                await (self._stream.reset() if self._broken else self._stream.close())

    async def _to_peer(self) -> None:
        try:
            while data := await self._local.receive_some(CHUNK_BYTES):
                await self._muxed.write(data)
            await self._stream.close_write()  # type: ignore[attr-defined]
        except (*STREAM_ENDED, *_LOCAL_ENDED):
            self._break()

    async def _to_node(self) -> None:
        try:
            while data := await self._muxed.read(CHUNK_BYTES):
                await self._hand_over(data)
        except STREAM_ENDED:
            pass
        if lost(self._stream):
            self._break()
        elif self._node_listens:
            self._end_for_node()

    async def _hand_over(self, data: bytes) -> None:
        if self._node_listens:
            try:
                await self._local.send_all(data)
            except _LOCAL_ENDED:
                self._node_listens = False

    def _end_for_node(self) -> None:
        try:
            self._socket.shutdown(trio.socket.SHUT_WR)
        except OSError:
            self._node_listens = False

    async def _linger(self) -> None:
        await self._closed_by_node.wait()
        await trio.sleep(_LINGER_S)
        self._break()

    def _break(self) -> None:
        self._broken = True
        self._scope.cancel()
