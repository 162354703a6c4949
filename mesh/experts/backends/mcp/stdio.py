"""MCP over the standard input and output of a program: a message a line."""

import asyncio
import json
import os
from collections.abc import Callable

from mesh.experts.backends.child import Child, ChildLost, ChildOptions, start_child
from mesh.experts.backends.mcp.session import Message, SessionLost


class StdioTransport:
    """Starts the program, and ends it with all that it started; see `mesh.experts.backends.mcp.session.Transport`."""

    def __init__(self, options: ChildOptions) -> None:
        self._options = options
        self._child: Child | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, heard: Callable[[Message], None], lost: Callable[[str], None]) -> None:
        """See `Transport.open`."""
        child = self._child = await start_child(self._options, os.environ)
        self._reading = asyncio.create_task(_read(child, heard, lost), name=f"read {child.name}")

    async def send(self, message: Message) -> None:
        """See `Transport.send`."""
        assert self._child is not None
        try:
            await self._child.send(json.dumps(message, ensure_ascii=False).encode())
        except ChildLost as error:
            await self.close()  # what it wrote before it stopped reading says more, and is heard by then
            raise SessionLost(str(error)) from None

    async def close(self) -> None:
        """See `Transport.close`."""
        if self._child is not None:
            await self._child.end()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    def agreed(self, version: str) -> None:
        """See `Transport.agreed`."""

    def listen(self) -> None:
        """See `Transport.listen`: all is heard on the one way."""


async def _read(child: Child, heard: Callable[[Message], None], lost: Callable[[str], None]) -> None:
    try:
        while True:
            heard(_message(child, await child.receive()))
    except ChildLost as error:
        lost(f"{error}; it {await child.end()}")


def _message(child: Child, line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ChildLost(f"{child.name} wrote {line[:80].decode(errors='replace').strip()!r}, not a message")
    return message
