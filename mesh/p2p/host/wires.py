"""One connection to another machine, below libp2p: its bytes, when something was last heard, and why it ended."""

import select
from collections import deque
from collections.abc import Callable, Iterable

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError

from mesh.p2p.host.channels import READ_AHEAD_BYTES, Channel, SocketChannel
from mesh.p2p.host.greeting import GreetedChannel
from mesh.p2p.host.private import NetworkKeyDiffers

# The transport of a wire that a relay passes on.
RELAYED = "relay"
# Data waits for room over this; where answers alone make it so many times as much, nothing more is read.
OWED_BYTES = 128 * 1024
_OVERFULL = 8


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

    `read` and `write` are for handshakes. What is multiplexed comes by `receive` and goes by `put`, which never waits:
    what the channel does not take at once is owed, and `send_owed` sees to it.
    """

    def __init__(
        self, channel: Channel, remote: tuple[str, int], *, inbound: bool, transport: str, hang_up: Callable[[], None]
    ) -> None:
        super().__init__(remote, _multiaddr(remote), inbound=inbound, transport=transport, hang_up=hang_up)
        self.channel = channel
        self._ahead = bytearray()
        self._reading = trio.Lock()
        self._writing = trio.Lock()
        self._send_now: Callable[[bytes], int] = lambda _data: 0
        self._owed: deque[bytes | memoryview] = deque()
        self.owed_bytes = 0
        self._unheard = False
        self._change = trio.Event()

    def lay(self, channel: Channel, transport: str, suffix: str) -> None:
        """From now on bytes go through ``channel``, which lies over the one before: ``/ws`` over TCP."""
        self.channel = channel
        self.transport = transport
        self.address += suffix
        if isinstance(channel, (SocketChannel, GreetedChannel)):
            self._send_now = channel.send_now

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

    def put(self, data: bytes) -> None:
        """Send it, after all that was put before. What is put after the end is lost."""
        if self.closed.is_set() or self._unheard:
            return
        sent = 0
        if not self.owed_bytes:
            try:
                sent = self._send_now(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._give_up_sending()
                return
        if sent < len(data):
            self._owed.append(memoryview(data)[sent:] if sent else data)
            self.owed_bytes += len(data) - sent
            self._tell()

    @property
    def is_full(self) -> bool:
        """Whether so much is owed that no data should be added."""
        return self.owed_bytes >= OWED_BYTES

    @property
    def is_overfull(self) -> bool:
        """Whether even answers should not be added."""
        return self.owed_bytes >= _OVERFULL * OWED_BYTES

    async def room(self) -> None:
        """Return when it `is_full` no more, or closed."""
        while self.is_full and not self.closed.is_set():
            await self._change.wait()

    async def drained(self) -> None:
        """Return when it `is_overfull` no more, or closed."""
        while self.is_overfull and not self.closed.is_set():
            await self._change.wait()

    async def send_owed(self) -> None:
        """Send what is owed, until that fails."""
        while True:
            while not self._owed:
                await self._change.wait()
            some = self._next_owed()
            try:
                await self.channel.send_all(some)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._give_up_sending()
                return
            self.owed_bytes = max(0, self.owed_bytes - len(some))
            self._tell()

    def _give_up_sending(self) -> None:
        """The peer hears us no more. What it said before can still be read, and then the end."""
        self.ended("connection reset by the peer")
        self._unheard = True
        self._forget_owed()

    def _next_owed(self) -> bytes:
        parts: list[bytes | memoryview] = []
        size = 0
        while self._owed and size < OWED_BYTES // 2:
            parts.append(self._owed.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def _tell(self) -> None:
        self._change.set()
        self._change = trio.Event()

    def abort(self, reason: str) -> None:
        """See `Wire.abort`."""
        super().abort(reason)
        self._forget_owed()

    def _forget_owed(self) -> None:
        self._owed.clear()
        self.owed_bytes = 0
        self._tell()

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
