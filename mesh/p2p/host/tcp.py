"""The TCP door: sockets that are ours alone, connections counted before they are read, each with a life of its own.

py-libp2p listens with SO_REUSEPORT, so that two nodes on one port both start in silence, and keeps the task and the
slot of every inbound connection for good. Here an address is bound exclusively or not at all, and what served a
connection ends with it.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
from libp2p.abc import IListener, IRawConnection
from libp2p.custom_types import THandler
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from mesh.errors import ListenError
from mesh.p2p.host.admission import Admission, Refusal

_READ_AHEAD_BYTES = 64 * 1024
_BACKLOG = 128
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_DESCRIPTOR_PAUSE_S = 0.1


class Wire(TrioTCPStream):
    """One TCP connection: reads ahead, knows when it last heard anything, and why it ended."""

    def __init__(self, stream: trio.SocketStream, *, inbound: bool) -> None:
        super().__init__(stream)
        self.inbound = inbound
        self.opened_at = trio.current_time()
        self.heard_at = self.opened_at
        self.settled = False
        self.failure: BaseException | None = None
        self.end_reason = ""
        self.closed = trio.Event()
        self._ahead = bytearray()
        host, port = stream.socket.getpeername()[:2]
        self._remote = (str(host), int(port))

    @property
    def host(self) -> str:
        """The IP address of the other end."""
        return self._remote[0]

    @property
    def address(self) -> str:
        """The other end as a multiaddr."""
        host, port = self._remote
        return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other end, IPv6 too."""
        return self._remote

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes; b"" at the end. Never asks the kernel for more than 64 KiB, whatever a peer claims."""
        if n == 0:
            return b""
        async with self.read_lock:
            if not self._ahead:
                self._ahead += await self._receive()
        taken = bytes(self._ahead[:n])
        del self._ahead[: len(taken)]
        return taken

    async def _receive(self) -> bytes:
        try:
            data = await self.stream.receive_some(_READ_AHEAD_BYTES)
        except trio.BrokenResourceError as error:
            self.ended("connection reset by the peer")
            raise ConnectionClosedError(f"TCP connection reset: {error}", transport="tcp") from error
        except trio.ClosedResourceError:
            return b""
        if not data:
            self.ended("closed by the peer")
        self.heard_at = trio.current_time()
        return bytes(data)

    async def close(self) -> None:
        """Close it."""
        self.abort("closed by us")

    def ended(self, reason: str) -> None:
        """Remember the first reason."""
        self.end_reason = self.end_reason or reason

    def abort(self, reason: str) -> None:
        """Close it at once, whatever is being written: a frozen peer must not be able to hold us."""
        self.ended(reason)
        self.stream.socket.close()
        self.closed.set()


@dataclass(frozen=True)
class Bound:
    """A listening socket, and the multiaddr it is bound to (with its real port)."""

    asked: str
    address: str
    listener: trio.SocketListener


async def bind(addresses: Sequence[str]) -> list[Bound]:
    """Bind every address, or none. Raises ListenError that names the address and what to do."""
    bound: list[Bound] = []
    try:
        for address in addresses:
            bound.append(await _bind_one(address))  # noqa: PERF401 - what was bound is closed when one fails
    except ListenError:
        for other in bound:
            await other.listener.aclose()
        raise
    return bound


async def _bind_one(address: str) -> Bound:
    family, host, port = _parse(address)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _listen_error(address, port, error) from error
    real_port = sock.getsockname()[1]
    return Bound(address, address.replace(f"/tcp/{port}", f"/tcp/{real_port}"), trio.SocketListener(sock))


def _parse(address: str) -> tuple[socket.AddressFamily, str, int]:
    match address.split("/"):
        case ["", "ip4", host, "tcp", port] if port.isdigit() and int(port) <= 65535:
            return socket.AF_INET, host, int(port)
        case ["", "ip6", host, "tcp", port] if port.isdigit() and int(port) <= 65535:
            return socket.AF_INET6, host, int(port)
    raise ListenError(
        f"[overlay] listen: {address!r} is not an address that can be listened on",
        remedy="Write it as /ip4/<address>/tcp/<port> or /ip6/<address>/tcp/<port>; port 0 picks a free one.",
    )


def _listen_error(address: str, port: int, error: OSError) -> ListenError:
    remedies = {
        errno.EADDRINUSE: f"Stop what uses port {port} (another node?), or set another port in [overlay] listen.",
        errno.EADDRNOTAVAIL: "Use an address of this machine in [overlay] listen, or 0.0.0.0 for all of them.",
        errno.EACCES: "Use a port above 1023 in [overlay] listen.",
    }
    return ListenError(
        f"cannot listen on {address}: {os.strerror(error.errno or 0)}",
        remedy=remedies.get(error.errno or 0, "Correct [overlay] listen."),
    )


class Doorkeeper:
    """Accepts connections as long as `Admission` lets it, and serves each in a scope that ends with the connection."""

    def __init__(
        self,
        admission: Admission,
        *,
        outbound: Callable[[], int],
        on_refused: Callable[[str, Refusal], None],
        on_unsettled: Callable[[Wire], None],
    ) -> None:
        self._admission = admission
        self._outbound = outbound
        self._on_refused = on_refused
        self._on_unsettled = on_unsettled
        self._in_handshake: set[Wire] = set()

    async def serve(self, listener: trio.SocketListener, handler: THandler) -> None:
        """Accept for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                stream = await self._accept(listener)
                wire = self._admit(stream)
                if wire is not None:
                    nursery.start_soon(self._serve_one, wire, handler)

    async def _accept(self, listener: trio.SocketListener) -> trio.SocketStream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                self._on_refused("", Refusal("file_descriptors", "the process's limit", os.strerror(error.errno)))
                await trio.sleep(_DESCRIPTOR_PAUSE_S)

    def _admit(self, stream: trio.SocketStream) -> Wire | None:
        try:
            wire = Wire(stream, inbound=True)
        except OSError:  # it hung up before we looked
            stream.socket.close()
            return None
        refusal = self._admission.arrive(wire.host, trio.current_time(), outbound=self._outbound())
        if refusal is not None:
            wire.abort(refusal.rule)
            self._on_refused(wire.address, refusal)
            return None
        self._in_handshake.add(wire)
        return wire

    async def _serve_one(self, wire: Wire, handler: THandler) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, wire, nursery.cancel_scope)
                await handler(wire)
                wire.abort("the handshake failed")
        finally:
            wire.abort("closed by us")
            self.settle(wire)
            self._admission.leave()

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
        self._nursery.start_soon(self._door.serve, one.listener, self._handler)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """Where it listens."""
        return tuple(Multiaddr(one.address) for one in self._serving)

    async def close(self) -> None:
        """Close the sockets."""
        for one in self._serving:
            await one.listener.aclose()


class DoorTcp(TCP):
    """TCP whose inbound side is a `Doorkeeper` and whose connections are `Wire`."""

    def __init__(self, door: Doorkeeper, bound: Sequence[Bound], nursery: trio.Nursery) -> None:
        super().__init__()
        self._door = door
        self._bound = bound
        self._nursery = nursery

    def create_listener(self, handler_function: THandler) -> IListener:  # type: ignore[override]
        """See `DoorListener`."""
        return DoorListener(self._door, self._bound, handler_function, self._nursery)

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Connect to ``maddr``; names are resolved."""
        raw = await super().dial(maddr)
        assert isinstance(raw, RawConnection)
        assert isinstance(raw.stream, TrioTCPStream)
        return RawConnection(Wire(raw.stream.stream, inbound=False), True)
