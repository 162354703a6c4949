"""The node's end of the link to the overlay process: a private socket, and what comes in through it."""

import asyncio
import hmac
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog

from mesh.p2p.host import wire

# sun_path of a unix socket holds 108 bytes on Linux, 104 elsewhere, the final zero among them.
_MAX_SOCKET_PATH_BYTES = 103
_MAX_HELLO_BYTES = 512
_READER_LIMIT_BYTES = 256 * 1024

log = structlog.get_logger(__name__)


class LocalConnection(asyncio.StreamReaderProtocol):
    """A connection from the overlay process: its Hello, then the control messages or the bytes of one stream."""

    def __init__(self, link: "HostLink") -> None:
        self.reader = asyncio.StreamReader(limit=_READER_LIMIT_BYTES)
        super().__init__(self.reader)
        self._link = link
        self._head = bytearray()
        self.stream: int | None = None
        self.writer: asyncio.StreamWriter
        self.transport: asyncio.Transport
        self.lost = False
        self.on_lost: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.writer = asyncio.StreamWriter(self.transport, self, self.reader, asyncio.get_running_loop())

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.stream is None:
            self._head += data
            head, newline, data = bytes(self._head).partition(b"\n")
            if not newline and len(head) <= _MAX_HELLO_BYTES:
                return
            self.stream = self._link.greet(self, head) if newline else None
            if self.stream is None:
                self.transport.abort()
                return
        if self.stream == 0:
            self._link.control_received(self, data)
        elif data:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.lost = True
        super().connection_lost(exc)
        self._link.connection_lost(self)
        self.on_lost()

    def abort(self) -> None:
        """End it at once, both ways."""
        self.transport.abort()


class HostLink:
    """Listens for the overlay process, and joins the announcement of a stream with its local connection."""

    def __init__(
        self,
        run_dir: Path,
        *,
        on_notice: Callable[[wire.Notice], None],
        on_stream: Callable[[wire.StreamOpened, LocalConnection], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._run_dir = run_dir
        self._on_notice = on_notice
        self._on_stream = on_stream
        self._on_lost = on_lost
        self._server: asyncio.Server | None = None
        self._temporary: Path | None = None
        self._control: LocalConnection | None = None
        self._token = ""
        self._unread = b""
        self._announced: dict[int, wire.StreamOpened] = {}
        self._arrived: dict[int, LocalConnection] = {}
        self._open: dict[int, LocalConnection] = {}
        self.path = Path()

    async def open(self) -> None:
        """Listen, in a directory that only our user can enter."""
        self.path = self._choose_path()
        self.path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: LocalConnection(self), str(self.path))

    def _choose_path(self) -> Path:
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._run_dir / "overlay.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
            self._run_dir.chmod(0o700)
            return path
        self._temporary = Path(tempfile.mkdtemp(prefix="mesh-"))
        return self._temporary / "overlay.sock"

    async def close(self) -> None:
        """Stop listening and drop what is connected."""
        self.drop()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self.path.unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def new_token(self) -> str:
        """What the next overlay process must say; what an earlier one knew is worth nothing from now on."""
        self._token = secrets.token_hex(32)
        return self._token

    def drop(self) -> None:
        """End every connection of the overlay process."""
        for connection in (*self._open.values(), *self._arrived.values()):
            connection.abort()
        for forgotten in (self._open, self._arrived, self._announced):
            forgotten.clear()
        control, self._control = self._control, None
        if control is not None:
            control.abort()
        self._unread = b""

    def send(self, command: wire.Command) -> bool:
        """Send a command; False when there is nobody to send it to."""
        if self._control is None or self._control.lost:
            return False
        self._control.transport.write(wire.line(command))
        return True

    def forget_stream(self, stream: int) -> None:
        """End one stream's local connection, if there is one."""
        connection = self._open.pop(stream, None) or self._arrived.pop(stream, None)
        if connection is not None:
            connection.abort()

    def greet(self, connection: LocalConnection, head: bytes) -> int | None:
        """The stream that an arriving connection is for, or None when it is none of ours."""
        try:
            hello = wire.decode_hello(head)
        except ValueError:
            return None
        if not self._token or not hmac.compare_digest(hello.token, self._token):
            log.warning("a local process that is not ours tried to join the overlay's link")
            return None
        if hello.stream == 0:
            if self._control is not None:
                return None
            self._control = connection
        else:
            self._arrived[hello.stream] = connection
            self._join(hello.stream)
        return hello.stream

    def control_received(self, connection: LocalConnection, data: bytes) -> None:
        """Take notices off the control connection."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if connection is not self._control:
                return
            notice = wire.decode_notice(line)
            if isinstance(notice, wire.StreamOpened):
                self._announced[notice.stream] = notice
                self._join(notice.stream)
            else:
                self._on_notice(notice)

    def connection_lost(self, connection: LocalConnection) -> None:
        """A local connection is gone: the overlay process with it, if it was the control connection."""
        if connection is self._control:
            self._control = None
            self._on_lost()
        elif connection.stream:
            known = self._open.pop(connection.stream, None)
            if known is not None:
                self.send(wire.CloseStream(connection.stream))

    def _join(self, stream: int) -> None:
        if stream in self._announced and stream in self._arrived:
            connection = self._open[stream] = self._arrived.pop(stream)
            self._on_stream(self._announced.pop(stream), connection)
