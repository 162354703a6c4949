"""The TCP door: connections are counted before they are read, and each has a life of its own.

py-libp2p keeps the task and the slot of every inbound connection for good. Here what served a connection ends with it.
"""

import errno
import os
from collections.abc import Callable, Sequence

import trio
from libp2p.abc import IListener, IRawConnection
from libp2p.custom_types import THandler
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from mesh.p2p.addresses import target_of
from mesh.p2p.host.admission import Admission, Refusal
from mesh.p2p.host.layers import Layers
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.wires import Wire, tcp_wire

_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_DESCRIPTOR_PAUSE_S = 0.1


class Doorkeeper:
    """Accepts connections as long as `Admission` lets it, and serves each in a scope that ends with the connection."""

    def __init__(
        self,
        admission: Admission,
        layers: Layers,
        *,
        handshake_s: float,
        outbound: Callable[[], int],
        on_refused: Callable[[str, Refusal], None],
        on_unsettled: Callable[[Wire], None],
    ) -> None:
        self._admission = admission
        self._layers = layers
        self._handshake_s = handshake_s
        self._outbound = outbound
        self._on_refused = on_refused
        self._on_unsettled = on_unsettled
        self._in_handshake: set[Wire] = set()

    async def serve(self, bound: Bound, handler: THandler) -> None:
        """Accept for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                stream = await self._accept(bound.listener)
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
                self._on_refused("", Refusal("file_descriptors", "the process's limit", os.strerror(error.errno)))
                await trio.sleep(_DESCRIPTOR_PAUSE_S)

    async def receive(self, wire: Wire, handler: THandler, transport: str = "") -> None:
        """Serve a connection that came otherwise than to a socket of ours, as long as `Admission` lets it.

        ``transport`` is what was spoken below it (``tcp``); empty where its bytes have been in other layers already.
        """
        if self._is_admitted(wire):
            await self._serve_one(wire, transport, handler)

    def _admit(self, stream: trio.SocketStream) -> Wire | None:
        try:
            wire = tcp_wire(stream, inbound=True)
        except OSError:  # it hung up before we looked
            stream.socket.close()
            return None
        return wire if self._is_admitted(wire) else None

    def _is_admitted(self, wire: Wire) -> bool:
        refusal = self._admission.arrive(wire.host, trio.current_time(), outbound=self._outbound())
        if refusal is not None:
            wire.abort(refusal.rule)
            self._on_refused(wire.address, refusal)
            return False
        self._in_handshake.add(wire)
        return True

    async def _serve_one(self, wire: Wire, transport: str, handler: THandler) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, wire, nursery.cancel_scope)
                nursery.start_soon(self._hurry, wire)
                try:
                    if transport:
                        await self._layers.accept(wire, transport)
                    await handler(wire)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    wire.failure = wire.failure or error
                wire.abort("the handshake failed")
        finally:
            wire.abort("closed by us")
            self.settle(wire)
            self._admission.leave(wire.host)

    async def _hurry(self, wire: Wire) -> None:
        """One deadline for all of it: TLS, WebSocket, the network key, and what libp2p does itself."""
        await trio.sleep_until(wire.opened_at + self._handshake_s)
        if not wire.settled:
            wire.failure = trio.TooSlowError()
            wire.abort("did not prove who it is in time")

    async def _end_with(self, wire: Wire, scope: trio.CancelScope) -> None:
        await wire.closed.wait()
        scope.cancel()

    def settle(self, wire: Wire) -> None:
        """The handshake is over: well if the wire says so, else it is reported. Later calls do nothing."""
        if wire in self._in_handshake:
            self._in_handshake.remove(wire)
            self._admission.settled(wire.host)
            if not wire.settled:
                self._on_unsettled(wire)


class DoorListener(IListener):
    """A listener of py-libp2p's kind, over sockets that are bound already."""

    def __init__(self, door: Doorkeeper, bound: Sequence[Bound], handler: THandler, nursery: trio.Nursery) -> None:
        self._door = door
        self._bound = {Multiaddr(one.address): one for one in bound}
        self._handler = handler
        self._nursery = nursery
        self._serving: list[Bound] = []

    async def listen(self, maddr: Multiaddr) -> None:
        """Accept at the socket that was bound for ``maddr``."""
        one = self._bound[maddr]
        self._serving.append(one)
        self._nursery.start_soon(self._door.serve, one, self._handler)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """Where it listens."""
        return tuple(Multiaddr(one.address) for one in self._serving)

    async def close(self) -> None:
        """Close the sockets."""
        for one in self._serving:
            await one.listener.aclose()


class DoorTcp(TCP):
    """TCP and WebSocket, whose inbound side is a `Doorkeeper` and whose connections are `Wire`."""

    def __init__(self, door: Doorkeeper, layers: Layers, bound: Sequence[Bound], nursery: trio.Nursery) -> None:
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
