"""A NATS service as an expert: a worker in any language that subscribes to a subject and replies.

What is said is documented in docs/experts.md. Services of the node's own broker that name their domains are found by
`mesh.experts.backends.nats_services`; here one of any server is given by its address and subject.
"""

import asyncio
import os
import secrets
from pathlib import Path

import msgspec
import structlog
from pydantic import Field

from mesh.errors import BrokerError, MeshError
from mesh.events.broker import BrokerAddress
from mesh.events.connection import Connection, connect
from mesh.events.wire import NO_RESPONDERS, Message, header, publication, status_of
from mesh.experts.backend import Kind, Options
from mesh.experts.backends.lines import call_fields
from mesh.experts.backends.pieces import MAX_ANSWER, Pieces
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit, FailureKind

_CALLS_SID = 2
_SILENCE_S = 2.0
_PING_S = 2.0
# HTTP's codes, as services use them.
_KINDS: dict[str, FailureKind] = {"400": "invalid", "422": "invalid", "429": "overloaded", "503": "unavailable"}

log = structlog.get_logger(__name__)


class NatsOptions(Options):
    """``options`` of ``backend = "nats"``."""

    url: str = Field(default="nats://127.0.0.1:4222", description="The server, or several with commas between")
    subject: str = Field(default="mesh.worker", pattern=r"^[^\s*>]+$", description="Where the service listens")
    service: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$", description="Its name, to ask whether it is there")
    user: str = Field(default="", description="Who connects; empty: nobody in particular")
    password_env: str = Field(default="", description="Environment variable that holds the password")
    credentials: Path | None = Field(default=None, description="A .creds or nkey seed file")
    model: str = Field(default="", description="What it says it is; default: the service or the subject")
    chat: bool = Field(default=False, description="It takes conversations")
    tools: bool = Field(default=False, description="It takes tools, and conversations")


class _Mailbox:
    """What came for one call. NATS holds nobody back, so what is not taken is bounded here."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message | AttemptFailed] = asyncio.Queue()
        self._bytes = 0

    def put(self, message: Message) -> None:
        self._bytes += len(message[4])
        if self._bytes > MAX_ANSWER:
            self.fail(AttemptFailed("failed", f"it sent more than {MAX_ANSWER} bytes that nobody had taken yet"))
        else:
            self._messages.put_nowait(message)

    def fail(self, failure: AttemptFailed) -> None:
        self._messages.put_nowait(failure)

    async def get(self) -> Message:
        message = await self._messages.get()
        if isinstance(message, AttemptFailed):
            raise message
        self._bytes -= len(message[4])
        return message


class NatsBackend:
    """Asks one service, with a connection of its own."""

    def __init__(self, options: NatsOptions, _concurrency: int, *, address: BrokerAddress | None = None) -> None:
        self.model = options.model or options.service or options.subject
        self.features: tuple[str, ...] = ("chat", "tools") if options.tools else ("chat",) if options.chat else ()
        self._options = options
        self._address = address
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._calls: dict[str, _Mailbox] = {}

    async def start(self) -> None:
        """Connect. Raises MeshError."""
        await self._connected()

    async def stop(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def check(self) -> None:
        """Raise MeshError when there is no connection, or nobody serves."""
        connection = await self._connected()
        if self._options.service and not await self._serves(connection):
            raise MeshError(f"nobody serves {self._options.service}", remedy="Start the worker.")

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Ask it, and take back what is cancelled. Raises AttemptFailed."""
        try:
            connection = await self._connected()
        except MeshError as error:
            raise AttemptFailed("unavailable", str(error)) from None
        token, mailbox, pieces = secrets.token_hex(12), _Mailbox(), Pieces(emit, call)
        payload = msgspec.json.encode(call_fields(call))
        if len(payload) > connection.info.get("max_payload", 1 << 20):
            raise AttemptFailed("invalid", f"the call has {len(payload)} bytes, more than the NATS server takes")
        reply, cancel = f"{connection.inbox}.c.{token}", f"mesh.cancel.{token}"
        headers = f"NATS/1.0\r\nMesh-Request: {call.request}\r\nMesh-Cancel: {cancel}\r\n\r\n".encode()
        self._calls[token] = mailbox
        ended = False
        try:
            connection.write(publication(self._options.subject, payload, reply=reply, headers=headers))
            while True:
                _, _, _, about, body = await self._next(mailbox, connection)
                ended = not header(about, "Mesh-More")
                _refuse_a_failure(about)
                await pieces.add(_text(body))
                if ended:
                    return _answer(about, pieces.text, self.model)
        finally:
            self._calls.pop(token, None)
            if not ended:
                connection.write(publication(cancel, b""))

    async def _next(self, mailbox: _Mailbox, connection: Connection) -> Message:
        """The next message. A service that is silent is asked whether it is there: who was killed does not say so."""
        while True:
            try:
                async with asyncio.timeout(_SILENCE_S if self._options.service else None):
                    return await mailbox.get()
            except TimeoutError:
                if not await self._serves(connection):
                    why = f"{self._options.service} is gone and has not ended its answer"
                    raise AttemptFailed("unavailable", why) from None

    async def _serves(self, connection: Connection) -> bool:
        try:
            reply = await connection.request(f"$SRV.PING.{self._options.service}", timeout=_PING_S)
        except BrokerError:
            return True  # it is there and busy, or the connection ends and says so itself
        return reply.status != NO_RESPONDERS

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None:
                address = self._address or _address(self._options)
                connection = await connect(address, name=f"mesh expert {self.model}")
                connection.on_messages = self._heard
                connection.on_lost = self._lost
                connection.subscribe(f"{connection.inbox}.c.*", _CALLS_SID)
                self._connection = connection
            return self._connection

    def _heard(self, messages: list[Message]) -> None:
        for message in messages:
            mailbox = self._calls.get(message[1].decode(errors="replace").rpartition(".")[2])
            if mailbox is not None:  # else it is late: the call was taken back
                mailbox.put(message)

    def _lost(self, error: Exception) -> None:
        self._connection = None
        for mailbox in self._calls.values():
            mailbox.fail(AttemptFailed("unavailable", str(error)))


def _address(options: NatsOptions) -> BrokerAddress:
    password = os.environ.get(options.password_env, "") if options.password_env else ""
    if options.password_env and not password:
        raise MeshError(
            f"the environment variable {options.password_env} is not set", remedy="Set it to the NATS user's password."
        )
    try:
        credentials = options.credentials.read_text() if options.credentials else ""
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError(
            f"{options.credentials} cannot be read: {error}", remedy="Correct options.credentials."
        ) from None
    return BrokerAddress(options.url, options.user, password, credentials)


def _refuse_a_failure(about: bytes) -> None:
    if status_of(about) == NO_RESPONDERS and not header(about, "Nats-Service-Error-Code"):
        raise AttemptFailed("unavailable", "nobody serves the subject")
    code, said = header(about, "Nats-Service-Error-Code"), header(about, "Nats-Service-Error")
    if code or said:
        raise AttemptFailed(_KINDS.get(code, "failed"), f"{said or 'no reason was given'} ({code})"[:500])


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise AttemptFailed("failed", "it replied with what is not UTF-8") from None


def _answer(about: bytes, text: str, model: str) -> Answer:
    return Answer(
        text=text,
        model=header(about, "Mesh-Model")[:128] or model,
        tokens_in=_count(header(about, "Mesh-Tokens-In")),
        tokens_out=_count(header(about, "Mesh-Tokens-Out")),
        finish_reason=header(about, "Mesh-Finish-Reason")[:32],
        format="message" if header(about, "Mesh-Format") == "message" else "text",
    )


def _count(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else -1


KIND = Kind(NatsOptions, NatsBackend)
