"""One connection to a NATS server: handshake, requests, keep-alive, and messages handed over in batches."""

import asyncio
import json
import os
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from mesh.errors import BrokerError
from mesh.events import nkeys
from mesh.events.broker import BrokerAddress
from mesh.events.wire import Message, Parser, publication, status_of

_REQUESTS_SID = 1
_DEFAULT_PORT = 4222
_KEEP_ALIVE_S = 10.0


class NoAnswer(BrokerError):
    """Nobody answered a request in time; it may have been carried out."""


class Reply(NamedTuple):
    """The answer to a request."""

    headers: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """See `mesh.events.wire.status_of`."""
        return status_of(self.headers)


class Connection(asyncio.Protocol):
    """Open one with `connect`, and set its callbacks before the next await.

    ``on_messages`` gets the messages of every chunk that arrives, except replies to requests; it must not block.
    ``on_lost`` is called once when it ends without `close`, ``on_writable`` when ``writable`` is true again.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.inbox = f"_INBOX.{os.urandom(9).hex()}"
        self.info: dict[str, Any] = {}
        self.writable = True
        self.on_messages: Callable[[list[Message]], None] = lambda _messages: None
        self.on_lost: Callable[[Exception], None] = lambda _error: None
        self.on_writable: Callable[[], None] = lambda: None
        self._loop = loop
        self._parser = Parser()
        self._transport: asyncio.Transport | None = None
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._welcomed: asyncio.Future[None] = loop.create_future()
        self._requests: dict[int, asyncio.Future[Reply]] = {}
        self._request_count = 0
        self._heard = True
        self._keeper: asyncio.TimerHandle | None = None
        self._ended: Exception | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without deriving from it

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard = True
        try:
            messages, controls = self._parser.feed(data)
            for line in controls:
                self._control(line)
        except ValueError as error:
            self._end(BrokerError(f"what answers is not a NATS server: {error}"))
            return
        if self._requests:
            messages = [message for message in messages if not self._answers(message)]
        if messages:
            self.on_messages(messages)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._end(BrokerError(f"the connection to the NATS server was lost: {exc or 'closed by the server'}"))

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.writable = False

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.writable = True
        self.on_writable()

    # What our side calls.

    def write(self, data: bytes) -> None:
        """Send protocol bytes; nothing happens once the connection has ended."""
        if self._transport is not None and self._ended is None:
            self._transport.write(data)

    def subscribe(self, subject: str, sid: int) -> None:
        """Messages on ``subject`` go to ``on_messages`` from now on. ``sid`` is 2 or more."""
        self.write(f"SUB {subject} {sid}\r\n".encode())

    async def request(self, subject: str, payload: bytes = b"", *, timeout: float = 5.0) -> Reply:
        """Ask and return the first answer. Raises BrokerError when the connection ends, NoAnswer after ``timeout``."""
        if self._ended is not None:
            raise self._ended
        self._request_count += 1
        number = self._request_count
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._requests[number] = answer
        self.write(publication(subject, payload, reply=f"{self.inbox}.r.{number}"))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"the NATS server did not answer {subject} within {timeout:g} s") from None
        finally:
            self._requests.pop(number, None)

    def skim(self, take: Callable[[bytes], int]) -> None:
        """Let ``take`` see all bytes that arrive before they are parsed: see `mesh.events.wire.Parser`."""
        self._parser.skim = take

    def close(self) -> None:
        """End the connection; ``on_lost`` is not called."""
        self.on_lost = lambda _error: None
        self._end(BrokerError("the connection is closed"))

    # Inside.

    def _control(self, line: bytes) -> None:
        if line.startswith(b"INFO "):
            self.info = json.loads(line[5:])
            _set(self._greeted)
        elif line == b"PING":
            self.write(b"PONG\r\n")
        elif line == b"PONG":
            _set(self._welcomed)
        elif line.startswith(b"-ERR"):
            text = line[4:].strip().decode(errors="replace").strip("'")
            # A refused subject leaves the connection open; every other error is the server hanging up.
            if not text.lower().startswith("permissions violation"):
                self._end(BrokerError(f"the NATS server refuses this client: {text}"))

    def _answers(self, message: Message) -> bool:
        if message[0] != _REQUESTS_SID:
            return False
        waiting = self._requests.get(int(message[1].rpartition(b".")[2]))
        if waiting is not None and not waiting.done():
            waiting.set_result(Reply(message[3], message[4]))
        return True

    def _keep_alive(self) -> None:
        if not self._heard:
            self._end(BrokerError(f"the NATS server has been silent for {_KEEP_ALIVE_S:g} s"))
            return
        self._heard = False
        self.write(b"PING\r\n")
        self._keeper = self._loop.call_later(_KEEP_ALIVE_S, self._keep_alive)

    def _end(self, error: Exception) -> None:
        if self._ended is not None:
            return
        self._ended = error
        if self._keeper is not None:
            self._keeper.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting: list[asyncio.Future[Any]] = [self._greeted, self._welcomed, *self._requests.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever no longer waits for it need not be told
        self.on_lost(error)

    async def _shake_hands(self, url: str, address: BrokerAddress, name: str) -> None:
        parts = urlsplit(url)
        await self._greeted
        if parts.scheme == "tls" or self.info.get("tls_required"):
            assert self._transport is not None
            self._transport = await self._loop.start_tls(
                self._transport, self, ssl.create_default_context(), server_hostname=parts.hostname
            )
        options: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "name": name,
        }
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if address.user or user:
            options |= {"user": address.user or user, "pass": address.password or password}
        if address.credentials:
            options |= nkeys.answer(address.credentials, str(self.info.get("nonce", "")))
        replies = f"SUB {self.inbox}.r.* {_REQUESTS_SID}"
        # In one write: a second one could fail on a server that has refused us, before its reason is read.
        self.write(f"CONNECT {json.dumps(options)}\r\n{replies}\r\nPING\r\n".encode())
        await self._welcomed
        self._keep_alive()


async def connect(
    address: BrokerAddress,
    *,
    name: str,
    timeout: float = 5.0,
) -> Connection:
    """Connect to the first server of ``address`` that takes us. Raises BrokerError that names all that were tried."""
    loop = asyncio.get_running_loop()
    failures = []
    for url in address.urls:
        protocol = Connection()
        try:
            host, port = _host_and_port(url)
            async with asyncio.timeout(timeout):
                await loop.create_connection(partial(_same, protocol), host, port)
                await protocol._shake_hands(url, address, name)  # noqa: SLF001 - the other half of this file
        except (OSError, ValueError, BrokerError) as error:
            protocol.close()
            failures.append(f"{_without_password(url)}: {str(error) or 'no answer'}")
            continue
        except BaseException:
            protocol.close()
            raise
        return protocol
    raise BrokerError(
        f"no NATS server can be used at {'; '.join(failures) or address.url}",
        remedy="Check that it runs, and `url` and `credentials` in [broker].",
    )


def _same(protocol: Connection) -> Connection:
    return protocol


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme not in ("nats", "tls") or not parts.hostname:
        raise ValueError("a NATS URL is nats://host:port or tls://host:port")
    return parts.hostname, parts.port or _DEFAULT_PORT


def _without_password(url: str) -> str:
    scheme, found, rest = url.partition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}"


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
