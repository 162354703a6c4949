"""What is laid over a TCP connection before libp2p sees it: TLS and WebSocket where asked for, then the network key."""

import ssl
from collections.abc import Callable
from pathlib import Path

import trio

from mesh.errors import ListenError
from mesh.p2p.addresses import Target
from mesh.p2p.host.channels import Channel, SocketChannel
from mesh.p2p.host.greeting import GreetedChannel
from mesh.p2p.host.private import PrivateChannel
from mesh.p2p.host.settings import WebSocketTls
from mesh.p2p.host.websocket import WebSocketChannel
from mesh.p2p.host.wires import ByteWire

_SUFFIX = {"tcp": "", "ws": "/ws", "wss": "/tls/ws"}


class Layers:
    """Lays them. A certificate that was renewed on disk is taken up by the next connection."""

    def __init__(self, network_key: bytes, tls: WebSocketTls) -> None:
        self._network_key = network_key
        self._tls = tls
        self._server: tuple[tuple[float, ...], ssl.SSLContext] | None = None

    @property
    def private(self) -> bool:
        """Whether there is a network key."""
        return bool(self._network_key)

    def check(self) -> None:
        """Raise ListenError when the files of the certificate, or of what is trusted, are no use."""
        for name, read in (("wss_certificate", self._server_context), ("wss_trust", self._client_context)):
            path = self._tls.certificate if name == "wss_certificate" else self._tls.trust
            if path:
                _read(f"[overlay] {name} {path}", read)

    async def accept(self, wire: ByteWire, transport: str) -> None:
        """Take what a client of ``transport`` sends first. Raises trio.BrokenResourceError."""
        channel = wire.channel
        if transport == "wss":
            channel = await _shaken(trio.SSLStream(_stream(channel), self._server_context(), server_side=True))
        if transport != "tcp":
            channel = await WebSocketChannel.accept(channel)
        self._lay(wire, channel, transport)

    async def connect(self, wire: ByteWire, target: Target) -> None:
        """Ask for ``target.transport`` over a new connection. Raises trio.BrokenResourceError."""
        channel = wire.channel
        if target.transport == "wss":
            name = target.server_name or target.host
            tls = trio.SSLStream(_stream(channel), self._client_context(), server_hostname=name, https_compatible=True)
            channel = await _shaken(tls)
        if target.transport != "tcp":
            host = f"[{target.host}]" if ":" in target.host else target.server_name or target.host
            channel = await WebSocketChannel.connect(channel, f"{host}:{target.port}")
        self._lay(wire, channel, target.transport)

    def _lay(self, wire: ByteWire, channel: Channel, transport: str) -> None:
        if isinstance(channel, trio.SocketStream):
            channel = SocketChannel(channel.socket)
        top = PrivateChannel(channel, self._network_key) if self.private else GreetedChannel(channel)
        wire.lay(top, transport, _SUFFIX[transport])

    def _server_context(self) -> ssl.SSLContext:
        files = (self._tls.certificate, self._tls.key or self._tls.certificate)
        try:
            changed = tuple(Path(file).stat().st_mtime for file in files)
            if self._server is None or self._server[0] != changed:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.load_cert_chain(*files)
                self._server = changed, context
        except OSError:  # half renewed: the old one serves until the new one is whole
            if self._server is None:
                raise
        return self._server[1]

    def _client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._tls.trust or None)


def _read(what: str, read: Callable[[], ssl.SSLContext]) -> None:
    try:
        read()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ListenError(f"{what} cannot be used: {error}", remedy="Name readable PEM files.") from error


def _stream(channel: Channel) -> trio.SocketStream:
    assert isinstance(channel, trio.SocketStream)
    return channel


async def _shaken(tls: trio.SSLStream) -> trio.SSLStream:
    await tls.do_handshake()
    return tls
