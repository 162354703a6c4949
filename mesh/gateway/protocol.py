"""HTTP as uvicorn speaks it, with bounds on what a connection may hold: time, bytes, and how many there are."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_TOO_LARGE = "431 Request Header Fields Too Large"
_CROWDED = "503 Service Unavailable"


@dataclass(frozen=True)
class Bounds:
    """What one connection may take. ``head``: the request line with its headers; ``message``: all of a request.

    ``head_s`` is for a head to be there since the connection was made or the head began, ``stalled_s`` for a client to
    take some of what is sent. ``connections`` are counted together.
    """

    connections: int
    message_bytes: int
    head_bytes: int = 64 << 10
    head_s: float = 10.0
    stalled_s: float = 60.0


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a client. `bounded` makes the class that has bounds."""

    bounds: Bounds

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._message_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            self._refuse(_CROWDED)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._head_timer = _off(self._head_timer)
        self._stall_timer = _off(self._stall_timer)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.transport.is_closing():
            return
        self._message_bytes += len(data)
        if self._in_head:
            self._await_head()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._message_bytes > self.bounds.head_bytes:
            self._refuse(_TOO_LARGE)
        elif self._message_bytes > self.bounds.message_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """See httptools."""
        self._head_bytes = self._message_bytes = 0
        self._in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. What trails a chunked body is counted, and dropped: nothing here reads it."""
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head = False
        self._head_timer = _off(self._head_timer)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        self._in_head = True
        self._message_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """See HttpToolsProtocol: what is no HTTP."""
        self._refuse(_TOO_LARGE if self._head_bytes > self.bounds.head_bytes else "400 Bad Request", msg)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._stall_timer = _off(self._stall_timer)
        self._stall_timer = self.loop.call_later(self.bounds.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._stall_timer = _off(self._stall_timer)
        super().resume_writing()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.bounds.head_s, self.transport.abort)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.bounds.head_bytes:
            raise ValueError("the head is too large")

    def _refuse(self, status: str, why: str = "") -> None:
        body = (why or status.partition(" ")[2]).encode()
        kind = "text/plain; charset=utf-8"
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(bounds: Bounds) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn's ``http`` setting."""
    return cast("type[asyncio.Protocol]", type("Bounded", (BoundedProtocol,), {"bounds": bounds}))


def _off(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
