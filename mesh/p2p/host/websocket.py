"""WebSocket (RFC 6455) as a channel: binary messages are a stream of bytes whose borders mean nothing.

Frames are decoded as their bytes come, by the task that reads: there is no queue, and no message is ever put together.
"""

from collections.abc import Iterable

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from mesh.p2p.host.channels import READ_AHEAD_BYTES, Channel

# libp2p's WebSocket transport asks for the root of the server.
_PATH = "/"


class WebSocketChannel:
    """See `Channel`. Make it with `accept` or `connect`."""

    def __init__(self, below: Channel, kind: ConnectionType) -> None:
        self._below = below
        self._protocol = WSConnection(kind)
        self._sending = trio.Lock()
        self._ended = False
        self._early = b""
        self._held: bytes | None = None

    @classmethod
    async def accept(cls, below: Channel) -> "WebSocketChannel":
        """Wait for the client's request and take it. Raises trio.BrokenResourceError for anything else."""
        channel = cls(below, ConnectionType.SERVER)
        if not any(isinstance(event, Request) for event in await channel._shaken()):
            raise trio.BrokenResourceError("it asked for no WebSocket")
        await channel._send(AcceptConnection())
        # A client may look for messages only some time after it is told that the WebSocket is open. It speaks first.
        channel._held = b""
        return channel

    @classmethod
    async def connect(cls, below: Channel, host: str) -> "WebSocketChannel":
        """Ask the server ``host`` for a WebSocket. Raises trio.BrokenResourceError when it gives none."""
        channel = cls(below, ConnectionType.CLIENT)
        await channel._send(Request(host=host, target=_PATH))
        for event in await channel._shaken():
            if isinstance(event, RejectConnection):
                raise trio.BrokenResourceError(f"the server refused a WebSocket with status {event.status_code}")
            if isinstance(event, BytesMessage):
                channel._early += event.data
        return channel

    async def _shaken(self) -> list[Event]:
        """The first events of the other side, whose handshake is bounded by h11 (16 KiB)."""
        while True:
            events = [event for event in await self._next_events() if not isinstance(event, RejectData)]
            if events:
                return events
            if self._ended:
                raise trio.BrokenResourceError("it hung up in the WebSocket handshake")

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """See `Channel`."""
        early, self._early = self._early, b""
        if early:
            return early
        while not self._ended:
            data = await self._take(await self._next_events(max_bytes))
            if data:
                await self._release()
                return data
        return b""

    async def _next_events(self, max_bytes: int | None = None) -> list[Event]:
        data = await self._below.receive_some(min(max_bytes or READ_AHEAD_BYTES, READ_AHEAD_BYTES))
        if not data:  # without a farewell, as TCP ends
            self._ended = True
            return []
        try:
            self._protocol.receive_data(bytes(data))
            return list(self._protocol.events())
        except (ProtocolError, ValueError) as error:
            raise trio.BrokenResourceError(f"not WebSocket: {error}") from error

    async def _take(self, events: Iterable[Event]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            match event:
                case BytesMessage():
                    parts.append(bytes(event.data))
                case Ping():
                    await self._send(event.response())
                case CloseConnection():
                    self._ended = True
                    await self._send(event.response())
                    if event.code != CloseReason.NORMAL_CLOSURE and event.reason:
                        raise trio.BrokenResourceError(f"WebSocket: {event.reason}")
                case Pong():
                    pass
                case _:
                    raise trio.BrokenResourceError(f"libp2p sends binary messages, not {type(event).__name__}")
        return b"".join(parts)

    async def send_all(self, data: bytes, /) -> None:
        """See `Channel`. A server's first words wait until the client has spoken."""
        if self._held is not None:
            self._held += data
        else:
            await self._send(BytesMessage(data=bytes(data)))

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            await self._send(BytesMessage(data=held))

    async def _send(self, event: Event) -> None:
        async with self._sending:
            try:
                framed = self._protocol.send(event)
            except ProtocolError as error:
                raise trio.BrokenResourceError(f"the WebSocket has ended: {error}") from error
            await self._below.send_all(framed)
