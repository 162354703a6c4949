"""MCP over streamable HTTP: every message is a POST, whose response is JSON or a stream of server-sent events.

What a server says unasked comes by the events of a GET, where it has any.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import structlog

from mesh.experts.backends.mcp.session import Message, SessionLost

_MAX_BODY = 8 << 20
_SESSION = "Mcp-Session-Id"
_EVENTS = "text/event-stream"
_LISTEN_AGAIN_S = 5.0
log = structlog.get_logger(__name__)


class HttpTransport:
    """See `mesh.experts.backends.mcp.session.Transport`. ``token`` is sent as the bearer's."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Accept": "application/json, text/event-stream"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._client: httpx.AsyncClient | None = None
        self._listening: asyncio.Task[None] | None = None
        self._heard: Callable[[Message], None] = lambda _message: None
        self._lost: Callable[[str], None] = lambda _why: None

    async def open(self, heard: Callable[[Message], None], lost: Callable[[str], None]) -> None:
        """See `Transport.open`. Nothing is sent yet."""
        self._heard, self._lost = heard, lost
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=5.0, pool=5.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def send(self, message: Message) -> None:
        """See `Transport.send`; the answer to a request has been handed over when this returns."""
        assert self._client is not None
        try:
            async with self._client.stream("POST", self._url, json=message, headers=self._headers) as response:
                self._refuse_a_failure(response)
                if session := response.headers.get(_SESSION):
                    self._headers[_SESSION] = session
                answered = await self._read(response, message.get("id"))
        except httpx.HTTPError as error:
            raise self._gone(f"{self._url}: {type(error).__name__}: {error}") from None
        except SessionLost as error:
            raise self._gone(str(error)) from None
        if "method" in message and "id" in message and not answered:
            raise self._gone(f"{self._url} ended its response without an answer")

    async def close(self) -> None:
        """See `Transport.close`. A session is given back, if the server likes that."""
        if self._client is None:
            return
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if _SESSION in self._headers:
            try:
                await self._client.delete(self._url, headers=self._headers, timeout=2.0)
            except httpx.HTTPError:
                self._headers.pop(_SESSION)  # it ends by itself
        await self._client.aclose()

    def agreed(self, version: str) -> None:
        """See `Transport.agreed`."""
        self._headers["MCP-Protocol-Version"] = version

    def listen(self) -> None:
        """See `Transport.listen`."""
        self._listening = asyncio.create_task(self._listen(), name=f"listen to {self._url}")
        self._listening.add_done_callback(self._listened)

    def _listened(self, listening: asyncio.Task[None]) -> None:
        if not listening.cancelled() and (error := listening.exception()) is not None:
            self._lost(f"what {self._url} says unasked cannot be taken: {error!r}")

    async def _listen(self) -> None:
        """Until the session ends, or the server turns out to say nothing unasked."""
        assert self._client is not None
        headers = {**self._headers, "Accept": _EVENTS}
        while True:
            try:
                async with self._client.stream("GET", self._url, headers=headers) as response:
                    if response.status_code != 200 or not _is_stream(response):
                        return
                    await self._read(response, None)
            except (httpx.HTTPError, SessionLost) as error:  # the next request tells whether it is gone
                log.debug("MCP server is not heard for now", url=self._url, reason=repr(error))
            await asyncio.sleep(_LISTEN_AGAIN_S)

    def _refuse_a_failure(self, response: httpx.Response) -> None:
        if not response.is_success:
            raise SessionLost(f"HTTP {response.status_code} from {self._url}")

    def _gone(self, why: str) -> SessionLost:
        self._lost(why)
        return SessionLost(why)

    async def _read(self, response: httpx.Response, number: Any) -> bool:  # noqa: ANN401 - an id is theirs to choose
        async for text in _events(response) if _is_stream(response) else _whole(response):
            try:
                message = json.loads(text)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                raise SessionLost(f"{self._url} sent {text[:80].decode(errors='replace')!r}, not a message")
            self._heard(message)
            if "method" not in message and message.get("id") == number:
                return True
        return False


def _is_stream(response: httpx.Response) -> bool:
    return str(response.headers.get("Content-Type", "")).startswith(_EVENTS)


async def _whole(response: httpx.Response) -> AsyncIterator[bytes]:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        _bound(body)
    if body.strip():
        yield body


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The data of each event; other fields do not concern us."""
    rest, data = b"", b""
    async for piece in response.aiter_bytes():
        rest = rest + piece
        *lines, rest = rest.split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                data += (b"\n" if data else b"") + line[5:].removeprefix(b" ")
            elif not line and data:
                yield data
                data = b""
        _bound(rest + data)


def _bound(body: bytes) -> None:
    if len(body) > _MAX_BODY:
        raise SessionLost(f"a message of more than {_MAX_BODY} bytes came")
