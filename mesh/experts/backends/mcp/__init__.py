"""A server of the Model Context Protocol as an expert: its tools answer requests, over standard input or HTTP.

The protocol is spoken by hand: what is needed of it is little, and the official package brings a web server along.
"""

import asyncio
import os

import structlog
from pydantic import Field, model_validator

from mesh.errors import MeshError
from mesh.experts.backend import Kind
from mesh.experts.backends.backoff import Backoff
from mesh.experts.backends.child import ChildOptions
from mesh.experts.backends.mcp.session import ServerError, Session, SessionLost, Transport
from mesh.experts.backends.mcp.stdio import StdioTransport
from mesh.experts.backends.mcp.tools import LISTING, MAX_TOOLS, Tool, listing, text_of, tools_in, understand
from mesh.experts.backends.pieces import Pieces
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

_INVALID_PARAMS = -32602
_PING_S = 5.0
_PAGES = 100

log = structlog.get_logger(__name__)


class McpOptions(ChildOptions):
    """``options`` of ``backend = "mcp"``: either ``command`` or ``url``."""

    command: list[str] = Field(default=[], description="The server's program and its arguments; no shell reads them")
    url: str = Field(default="", pattern=r"^(https?://.+)?$", description="The server's address, for streamable HTTP")
    token_env: str = Field(default="", description="Environment variable that holds the bearer token for `url`")
    tools: list[str] = Field(default=[], description="The tools that may be used; empty: all that the server has")
    call_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="Time that a tool may take")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "McpOptions":
        if bool(self.command) == bool(self.url):
            raise ValueError("it takes either command or url")
        return self


class McpBackend:
    """One session; one that is lost is begun anew, with pauses that grow."""

    features: tuple[str, ...] = ()

    def __init__(self, options: McpOptions, _concurrency: int) -> None:
        self.model = options.command[0].rpartition("/")[2] if options.command else options.url
        self.tools: dict[str, Tool] = {}
        self._options = options
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._backoff = Backoff()
        self._not_before = 0.0
        self._since = 0.0

    async def start(self) -> None:
        """Begin a session and learn the tools. Raises MeshError."""
        self._session = await self._begin()

    async def stop(self) -> None:
        """End the session, and the server if it is ours."""
        async with self._opening:
            if self._session is not None:
                await self._session.close()
                self._session = None

    async def check(self) -> None:
        """Ping the server unless it is at work. Raises MeshError."""
        session = await self._living()
        try:
            async with asyncio.timeout(_PING_S):
                if not session.busy:
                    await session.request("ping")
        except TimeoutError:
            await self._give_up(session, f"no answer to a ping within {_PING_S:g} s")
            raise MeshError(f"{self.model} does not answer a ping", remedy="It is started or reached anew.") from None

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Call the tool that the text or the options name. Raises AttemptFailed."""
        pieces = Pieces(emit, call)
        try:
            session = await self._living()
        except MeshError as error:
            raise AttemptFailed("unavailable", str(error)) from None
        if call.content.strip().lower() in LISTING and "tool" not in call.options:
            await pieces.add(listing(self.tools))
        else:
            tool, arguments = understand(call, self.tools)
            await pieces.add(await self._use(session, tool, arguments))
        return Answer(text=pieces.text, model=self.model)

    async def _use(self, session: Session, tool: Tool, arguments: dict[str, object]) -> str:
        try:
            async with asyncio.timeout(self._options.call_timeout_s):
                result = await session.request("tools/call", {"name": tool.name, "arguments": arguments})
        except TimeoutError:
            why = f"{tool.name} takes over {self._options.call_timeout_s:g} s, the limit of a call"
            raise AttemptFailed("failed", why, retryable=tool.repeatable) from None
        except ServerError as error:
            if error.code == _INVALID_PARAMS:
                raise AttemptFailed("invalid", f"{tool.name}: {error}") from None
            raise AttemptFailed("failed", f"{tool.name}: {error}", retryable=tool.repeatable) from None
        except SessionLost as error:  # it may have been done: nobody else is asked to do it again
            raise AttemptFailed("failed", f"{tool.name}: {error}", retryable=tool.repeatable) from None
        return text_of(tool, result)

    async def _living(self) -> Session:
        """A session that is not lost, whose tools are known as they are now. Raises MeshError."""
        async with self._opening:
            if self._session is not None and not self._session.lost:
                if self._session.tools_changed:
                    await self._learn_anew(self._session)
                return self._session
            now = asyncio.get_running_loop().time()
            if self._session is not None:
                why, session, self._session = self._session.lost, self._session, None
                log.warning("MCP session was lost", server=self.model, reason=why)
                await session.close()
                self._not_before = now + self._backoff.after(now - self._since)
            if now < self._not_before:
                await asyncio.sleep(self._not_before - now)
            try:
                self._session = await self._begin()
            except MeshError:
                self._not_before = asyncio.get_running_loop().time() + self._backoff.after(0.0)
                raise
            return self._session

    async def _give_up(self, session: Session, why: str) -> None:
        log.warning("MCP server is given up", server=self.model, reason=why)
        await session.close()

    async def _begin(self) -> Session:
        session = Session(self._transport())
        try:
            async with asyncio.timeout(self._options.start_timeout_s):
                await session.start()
                self.tools = await self._learn(session)
        except BaseException as error:
            await session.close()
            if isinstance(error, TimeoutError):
                error = SessionLost(f"it did not begin within {self._options.start_timeout_s:g} s")
            if isinstance(error, SessionLost | ServerError):
                raise MeshError(
                    f"MCP server {self.model}: {error}",
                    remedy="Correct options.command or options.url; the node's log has what a program printed.",
                ) from None
            raise
        self.model = session.server
        self._since = asyncio.get_running_loop().time()
        return session

    def _transport(self) -> Transport:
        if self._options.command:
            return StdioTransport(self._options)
        from mesh.experts.backends.mcp.http import HttpTransport  # httpx: not for those that need no HTTP

        name = self._options.token_env
        if name and name not in os.environ:
            raise MeshError(f"the environment variable {name} is not set", remedy="Set it to the bearer token.")
        return HttpTransport(self._options.url, os.environ[name] if name else "")

    async def _learn_anew(self, session: Session) -> None:
        session.tools_changed = False
        try:
            async with asyncio.timeout(_PING_S):
                self.tools = await self._learn(session)
        except TimeoutError:
            await self._give_up(session, f"its tools changed, and it did not list them within {_PING_S:g} s")
            raise MeshError(f"{self.model} does not list its tools", remedy="It is started or reached anew.") from None
        except BaseException:
            session.tools_changed = True
            raise

    async def _learn(self, session: Session) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        params: dict[str, object] = {}
        for _ in range(_PAGES):
            page = await session.request("tools/list", params)
            tools |= {tool.name: tool for tool in tools_in(page)}
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or len(tools) >= MAX_TOOLS:
                break
            params = {"cursor": cursor}
        wanted = self._options.tools
        if missing := [name for name in wanted if name not in tools]:
            raise SessionLost(f"the server has no tool {missing[0]!r}; it has {', '.join(list(tools)[:20]) or 'none'}")
        return {name: tool for name, tool in tools.items() if not wanted or name in wanted}


KIND = Kind(McpOptions, McpBackend)
