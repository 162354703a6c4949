"""One connection to another machine, below libp2p: its bytes, when something was last heard, and why it ended."""

import select
from collections.abc import Callable, Iterable

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError

from mesh.p2p.host.channels import READ_AHEAD_BYTES, Channel
from mesh.p2p.host.outgoing import Outgoing
from mesh.p2p.host.private import NetworkKeyDiffers

# The transport of a wire that a relay passes on.
RELAYED = "relay"


class Wire:
    """A connection: who it leads to, when it was last heard, whether its handshake is over, and why it ended.

    ``hang_up`` ends it at once, without waiting for anybody; readers and writers must wake up from it.
    """

    def __init__(
        self, remote: tuple[str, int], address: str, *, inbound: bool, transport: str, hang_up: Callable[[], None]
    ) -> None:
        self.socket: trio.socket.SocketType | None = None  # of TCP, whatever was laid over it
        self.inbound = inbound
        self.transport = transport
        self.opened_at = trio.current_time()
        self.heard_at = self.opened_at
        self.settled = False
        self.punched = False  # through NATs that let nobody else in
        self.failure: BaseException | None = None
        self.network_key_differs = ""
        self.end_reason = ""
        self.closed = trio.Event()
        self.address = address
        self._remote = remote
        self._hang_up = hang_up

    @property
    def host(self) -> str:
        """The IP address of the other end."""
        return self._remote[0]

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other end, IPv6 too."""
        return self._remote

    @property
    def is_behind(self) -> bool:
        """Whether bytes have been received that nobody has asked for yet."""
        return False

    def ended(self, reason: str) -> None:
        """Remember the first reason."""
        self.end_reason = self.end_reason or reason

    def abort(self, reason: str) -> None:
        """Close it at once, whatever is being written: a frozen peer must not be able to hold us."""
        self.ended(reason)
        self._hang_up()
        self.closed.set()


class ByteWire(Wire, ReadWriteCloser):
    """A wire of bytes in order, over any `Channel`: libp2p secures and multiplexes it. It reads ahead.

    `read` and `write` are for handshakes. What is multiplexed comes by `receive`, and goes by ``outgoing``.
    """

    def __init__(
        self, channel: Channel, remote: tuple[str, int], *, inbound: bool, transport: str, hang_up: Callable[[], None]
    ) -> None:
        super().__init__(remote, _multiaddr(remote), inbound=inbound, transport=transport, hang_up=hang_up)
        self.channel = channel
        self._ahead = bytearray()
        self._reading = trio.Lock()
        self._writing = trio.Lock()
        # Of a peer that hears us no more, what it said before can still be read, and then the end.
        self.outgoing = Outgoing(channel, lambda: self.ended("connection reset by the peer"))

    def lay(self, channel: Channel, transport: str, suffix: str) -> None:
        """From now on bytes go through ``channel``, which lies over the one before: ``/ws`` over TCP."""
        self.channel = channel
        self.transport = transport
        self.address += suffix
        self.outgoing.lay(channel)

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes; b"" at the end. Never asks for more than 64 KiB, whatever a peer claims."""
        if n == 0:
            return b""
        async with self._reading:
            if not self._ahead:
                self._ahead += await self._receive()
        self.heard_at = trio.current_time()  # also of what came long ago, and is taken only now: we may be late
        taken = bytes(self._ahead[:n])
        del self._ahead[: len(taken)]
        return taken

    async def _receive(self) -> bytes | bytearray:
        try:
            data = await self.channel.receive_some(READ_AHEAD_BYTES)
        except NetworkKeyDiffers as error:
            self.failure, self.network_key_differs = error, error.value
            self.ended(str(error))
            raise ConnectionClosedError(str(error), transport=self.transport) from error
        except trio.BrokenResourceError as error:
            self.failure = self.failure or (error if error.args else None)
            self.ended("connection reset by the peer")
            raise ConnectionClosedError(f"connection broken: {error}", transport=self.transport) from error
        except trio.ClosedResourceError:
            return b""
        if not data:
            self.ended("closed by the peer")
        return data

    @property
    def is_behind(self) -> bool:
        """See `Wire.is_behind`."""
        return bool(self._ahead)

    async def write(self, data: bytes) -> None:
        """Send it. Raises ConnectionClosedError when the peer has reset; what is written after our end is lost."""
        async with self._writing:
            try:
                await self.channel.send_all(data)
            except trio.BrokenResourceError as error:
                raise ConnectionClosedError(f"connection broken: {error}", transport=self.transport) from error
            except trio.ClosedResourceError:
                return

    async def receive(self) -> bytes:
        """What has come, b"" at the end. Raises ConnectionClosedError."""
        if self._ahead:
            data = bytes(self._ahead)
            self._ahead.clear()
        else:
            data = bytes(await self._receive())
        self.heard_at = trio.current_time()
        return data

    def abort(self, reason: str) -> None:
        """See `Wire.abort`."""
        super().abort(reason)
        self.outgoing.end()

    async def close(self) -> None:
        """Close it."""
        self.abort("closed by us")


def unread_of(wires: Iterable[Wire]) -> set[Wire]:
    """Those of whom something has arrived that was not taken yet, be it in the kernel."""
    found: set[Wire] = set()
    waiting: dict[int, Wire] = {}
    poll = select.poll()
    for wire in wires:
        if wire.is_behind:
            found.add(wire)
        elif wire.socket is not None and (number := wire.socket.fileno()) >= 0:
            waiting[number] = wire
            poll.register(number, select.POLLIN)
    return found | {waiting[number] for number, _ in poll.poll(0)}


def tcp_wire(stream: trio.SocketStream, *, inbound: bool) -> ByteWire:
    """The wire of a TCP connection. Raises OSError when it is gone already."""
    host, port = stream.socket.getpeername()[:2]
    wire = ByteWire(stream, (str(host), int(port)), inbound=inbound, transport="tcp", hang_up=stream.socket.close)
    wire.socket = stream.socket
    return wire


def _multiaddr(remote: tuple[str, int]) -> str:
    host, port = remote
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"
