"""TCP and what is laid over it, accepted through a `Doorkeeper` and dialled."""

import errno
import os
from collections.abc import Sequence

import trio
from libp2p.abc import IListener, IRawConnection
from libp2p.custom_types import THandler
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from mesh.p2p.addresses import target_of
from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.layers import Layers
from mesh.p2p.host.listener import DoorListener
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.wires import ByteWire, tcp_wire

_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_DESCRIPTOR_PAUSE_S = 0.1


class ByteDoor:
    """Accepts TCP connections, with what is laid over them, for a `Doorkeeper`."""

    def __init__(self, keeper: Doorkeeper, layers: Layers) -> None:
        self._keeper = keeper
        self._layers = layers

    async def serve(self, bound: Bound, handler: THandler) -> None:
        """Accept for ever."""
        listener = trio.SocketListener(bound.socket)
        async with trio.open_nursery() as nursery:
            while True:
                stream = await self._accept(listener)
                wire = self._admit(stream)
                if wire is not None:
                    nursery.start_soon(self._serve_one, wire, bound.transport, handler)

    async def _accept(self, listener: trio.SocketListener) -> trio.SocketStream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                self._keeper.refuse(Refusal("file_descriptors", "the process's limit", os.strerror(error.errno)))
                await trio.sleep(_DESCRIPTOR_PAUSE_S)

    async def receive(self, wire: ByteWire, handler: THandler, transport: str = "") -> None:
        """Serve a connection that came otherwise than to a socket of ours, as long as it is admitted.

        ``transport`` is what was spoken below it (``tcp``); empty where its bytes have been in other layers already.
        """
        if self._keeper.admits(wire):
            await self._serve_one(wire, transport, handler)

    def _admit(self, stream: trio.SocketStream) -> ByteWire | None:
        try:
            wire = tcp_wire(stream, inbound=True)
        except OSError:  # it hung up before we looked
            stream.socket.close()
            return None
        return wire if self._keeper.admits(wire) else None

    async def _serve_one(self, wire: ByteWire, transport: str, handler: THandler) -> None:
        async def serve() -> None:
            if transport:
                await self._layers.accept(wire, transport)
            await handler(wire)

        await self._keeper.keep(wire, serve)


class DoorTcp(TCP):
    """TCP and WebSocket, whose inbound side is a `ByteDoor` and whose connections are `ByteWire`."""

    def __init__(self, door: ByteDoor, layers: Layers, bound: Sequence[Bound], nursery: trio.Nursery) -> None:
        super().__init__()
        self._door = door
        self._layers = layers
        self._bound = bound
        self._nursery = nursery

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Whether it is an address of TCP or WebSocket."""
        return target_of(str(maddr)) is not None

    def create_listener(self, handler_function: THandler) -> IListener:  # type: ignore[override]
        """See `DoorListener`."""
        return DoorListener(self._door, self._bound, handler_function, self._nursery)

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Connect to ``maddr``; names are resolved. Raises OpenConnectionError."""
        target = target_of(str(maddr))
        assert target is not None
        raw = await super().dial(maddr)
        wire = tcp_wire(raw.stream.stream, inbound=False)  # type: ignore[attr-defined]
        try:
            await self._layers.connect(wire, target)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            wire.abort("the handshake failed")
            raise OpenConnectionError(f"no {target.transport} connection") from error
        except BaseException:
            wire.abort("given up")
            raise
        return RawConnection(wire, True)
