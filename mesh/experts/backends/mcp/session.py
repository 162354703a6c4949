"""JSON-RPC 2.0 with a server of the Model Context Protocol: requests, their answers, and what the server asks of us.

Specification: https://modelcontextprotocol.io/specification/2025-06-18.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import structlog

from mesh import __version__
from mesh.errors import MeshError

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_OFFERED = "2025-06-18"
_METHOD_NOT_FOUND = -32601
_MAX_SHOWN = 300

log = structlog.get_logger(__name__)

Message = dict[str, Any]


class SessionLost(MeshError):
    """The server ended, went away, or broke the protocol."""


class ServerError(MeshError):
    """The server answered with an error; ``code`` is JSON-RPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message[:_MAX_SHOWN])
        self.code = code


class Transport(Protocol):
    """Carries messages. Adapters: `mesh.experts.backends.mcp.stdio`, `mesh.experts.backends.mcp.http`."""

    async def open(self, heard: Callable[[Message], None], lost: Callable[[str], None]) -> None:
        """Connect. ``heard`` gets every message, ``lost`` why there will be no more. Raises MeshError."""
        ...

    async def send(self, message: Message) -> None:
        """Send one message. Raises SessionLost."""
        ...

    async def close(self) -> None:
        """End it."""
        ...

    def agreed(self, version: str) -> None:
        """The version of the protocol that is spoken from now on."""
        ...

    def listen(self) -> None:
        """The session has begun: hear what the server says unasked, too."""
        ...


class Session:
    """One conversation, from `start` to `close`. What comes in is judged: a server may hang, lie or babble."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = ""
        self.tools_changed = False
        self.server = "mcp"

    @property
    def busy(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._waiting)

    async def start(self) -> None:
        """Connect and agree on a version. Raises MeshError."""
        await self._transport.open(self._heard, self._lose)
        result = await self.request(
            "initialize",
            {
                "protocolVersion": _OFFERED,
                "capabilities": {},
                "clientInfo": {"name": "synaptic-mesh", "version": __version__},
            },
        )
        match result:
            case {"protocolVersion": str(version), "capabilities": {"tools": dict()}}:
                if version not in VERSIONS:
                    raise SessionLost(f"the server speaks version {version!r}; known: {', '.join(VERSIONS)}")
            case {"capabilities": dict()}:
                raise SessionLost("the server has no tools")
            case _:
                raise SessionLost(f"the server does not introduce itself: {_shown(result)}")
        self.server = _name_of(result.get("serverInfo"))
        self._transport.agreed(version)
        await self._transport.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._transport.listen()

    async def close(self) -> None:
        """End the transport and whoever waits."""
        self._lose("it was ended")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()

    async def request(self, method: str, params: Message | None = None) -> Message:
        """The result. Cancelling tells the server. Raises ServerError and SessionLost."""
        if self.lost:
            raise SessionLost(self.lost)
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            message = {"jsonrpc": "2.0", "id": number, "method": method}
            await self._transport.send({**message, "params": params} if params is not None else message)
            return await answer
        except SessionLost as error:
            self._lose(str(error))  # unless the reason is known better
            raise SessionLost(self.lost) from None
        except asyncio.CancelledError:
            if method != "initialize" and not self.lost:
                params = {"requestId": number, "reason": "taken back"}
                self._say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
            raise
        finally:
            del self._waiting[number]
            if answer.done() and not answer.cancelled():
                answer.exception()  # whoever was cancelled need not be told

    def _heard(self, message: Message) -> None:
        match message:
            case {"method": str(method), "id": int() | str() as number}:
                self._say(_reply_to(method, number))
            case {"method": "notifications/tools/list_changed"}:
                self.tools_changed = True
            case {"method": str()}:
                pass
            case {"id": int(number)} if number in self._waiting:
                _settle(self._waiting[number], message)
            case _:
                log.debug("MCP server sent an answer that nobody waits for", server=self.server, text=_shown(message))

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SessionLost(self.lost))

    def _say(self, message: Message) -> None:
        """Send without waiting; a server that does not read what it is told is lost."""
        task = asyncio.create_task(self._send(message), name=f"tell {self.server}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(5):
                await self._transport.send(message)
        except TimeoutError:
            self._lose("the server does not read what it is sent")
        except SessionLost as error:
            self._lose(str(error))


def _reply_to(method: str, number: int | str) -> Message:
    if method == "ping":
        return {"jsonrpc": "2.0", "id": number, "result": {}}
    error = {"code": _METHOD_NOT_FOUND, "message": f"{method} is not for this client"}
    return {"jsonrpc": "2.0", "id": number, "error": error}


def _settle(answer: "asyncio.Future[Message]", message: Message) -> None:
    if answer.done():
        return
    match message:
        case {"result": dict(result)}:
            answer.set_result(result)
        case {"error": {"code": int(code), "message": str(text)}}:
            answer.set_exception(ServerError(code, text))
        case _:
            answer.set_exception(
                ServerError(0, f"the server's answer is neither a result nor an error: {_shown(message)}")
            )


def _name_of(info: object) -> str:
    match info:
        case {"name": str(name), **rest}:
            return f"{name} {rest.get('version', '')}".strip()[:128]
    return "mcp"


def _shown(value: object) -> str:
    return repr(value)[:_MAX_SHOWN]
