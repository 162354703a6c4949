"""A model server as the OpenAI API has it, on a real socket: what it answers and how it fails is scripted."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Reply = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request and the means to reply."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._writer = writer

    async def json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json", f"Content-Length: {len(data)}")
        self._writer.write(data)
        await self._writer.drain()

    async def begin(self) -> None:
        self._head(200, "text/event-stream", "Connection: close")
        await self._writer.drain()

    async def line(self, line: str) -> None:
        self._writer.write(f"{line}\n\n".encode())
        await self._writer.drain()

    async def chunk(self, body: object) -> None:
        await self.line(f"data: {json.dumps(body)}")

    async def piece(self, text: str) -> None:
        await self.chunk({"model": "tiny-v2", "choices": [{"index": 0, "delta": {"content": text}}]})

    async def usage(self, tokens_in: int, tokens_out: int) -> None:
        await self.chunk({"choices": [], "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}})

    def _head(self, status: int, kind: str, *more: str) -> None:
        lines = (f"HTTP/1.1 {status} Scripted", f"Content-Type: {kind}", *more)
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())


async def counts(exchange: Exchange) -> None:
    """The prompt's last word, a character at a time, then usage."""
    await exchange.begin()
    word = exchange.request.body["messages"][-1]["content"].split()[-1]
    for character in word:
        await exchange.piece(character)
    await exchange.usage(7, len(word))
    await exchange.line("data: [DONE]")


@dataclass
class ModelServer:
    """What it was asked, how it replies, and how many connections broke off in the middle of a reply."""

    port: int = 0
    models: list[str] = field(default_factory=lambda: ["tiny"])
    reply: Reply = counts
    requests: list[Request] = field(default_factory=list)
    broken_off: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                exchange = Exchange(request, writer)
                if request.path == "/v1/models":
                    await exchange.json(200, {"data": [{"id": name} for name in self.models]})
                    continue
                await self._reply_until_gone(exchange, reader)
                break
        finally:
            writer.close()

    async def _reply_until_gone(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        replying = asyncio.ensure_future(self.reply(exchange))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({replying, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not replying.done():
                self.broken_off += 1
        finally:
            for task in (replying, gone):
                task.cancel()
            await asyncio.gather(replying, gone, return_exceptions=True)
        async with self.changed:
            self.changed.notify_all()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(body) if body else {})


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    server = ModelServer()
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(server.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await listening.wait_closed()
