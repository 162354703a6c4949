"""Server-sent events: every piece leaves at once, and the work ends as soon as the client has hung up."""

from collections.abc import AsyncIterator, Mapping

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mesh.gateway.runs import ClientGone, unless_gone

_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}
DONE = b"data: [DONE]\n\n"


class EventStream(Response):
    """Sends the frames of ``body``; it is closed at the end, however that comes."""

    def __init__(self, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**_HEADERS, **headers})
        del self.headers["content-length"]
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        del scope
        try:
            await unless_gone(receive, self._send(send))
        except (ClientGone, OSError):
            return  # there is nobody to tell

    async def _send(self, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for frame in self._body:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._body.aclose()  # type: ignore[attr-defined] # it is a generator


def frame(event: object, name: str = "") -> bytes:
    """One event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(event) + b"\n\n"
