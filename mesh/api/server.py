"""``mesh.api.*`` as NATS services, so that any NATS client can ask, and ``$SRV.PING/INFO/STATS`` work."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service, ServiceConfig
from pydantic import BaseModel, ValidationError

from mesh.api.listeners import Listener, Listeners
from mesh.api.messages import (
    ACCESS,
    ACKNOWLEDGE,
    ASK,
    CANCEL,
    FORGET,
    KIND,
    SERVICE,
    SERVICE_VERSION,
    STATUS,
    AccessChanged,
    AccessMessage,
    AcknowledgeMessage,
    AskMessage,
    CancelMessage,
    ForgetMessage,
    NodeStatus,
)
from mesh.api.whole import whole
from mesh.errors import MeshError
from mesh.events.readers import Credentials
from mesh.experts.calls import Emit
from mesh.experts.forgetting import Forgotten
from mesh.experts.queries import Outcome
from mesh.ids import new_id

log = structlog.get_logger(__name__)
RECONNECT_S = 1
_GOODBYE_S = 2.0
_TAKEN_BACK = "the request was taken back, by its caller or because the node is stopping"
Handler = Callable[[Request], Coroutine[Any, Any, None]]
M = TypeVar("M", bound=BaseModel)


class Commands(Protocol):
    """What the node can be told and asked."""

    async def ask(self, query: dict[str, Any], emit: Emit | None) -> Outcome:
        """Answer a query. Raises MeshError with ``kind`` and ``request`` where it has them."""
        ...

    async def acknowledge(self, alert: str, actor: str, note: str) -> None:
        """Acknowledge an alert. Raises MeshError when that alert is not open."""
        ...

    async def access(self, message: AccessMessage) -> AccessChanged:
        """Change who may be connected to. Raises MeshError for what is no rule, or not there."""
        ...

    async def forget(self, message: ForgetMessage) -> Forgotten:
        """Erase the keys of sealed texts. Raises MeshError where the disk refuses."""
        ...

    def status(self) -> NodeStatus:
        """What the node is doing."""
        ...


class ApiServer:
    """Serves `Commands` on one NATS connection. Long calls run as tasks of their own, which `stop` ends."""

    def __init__(self, credentials: Credentials, commands: Commands) -> None:
        self._credentials = credentials
        self._commands = commands
        self._client = Client()
        self._service: Service | None = None
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._listeners = Listeners(self._client)

    async def start(self) -> None:
        """Connect and serve."""
        await self._client.connect(
            self._credentials.url,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_S,
            error_cb=_log_error,
            **self._credentials.options(),
        )
        await self._listeners.start()
        self._service = await add_service(
            self._client,
            ServiceConfig(name=SERVICE, version=SERVICE_VERSION, description="A node of a mesh of experts"),
        )
        endpoints: dict[str, tuple[str, Handler]] = {
            "ask": (ASK, self._ask),
            "cancel": (CANCEL, self._cancel),
            "status": (STATUS, self._status),
            "acknowledge": (ACKNOWLEDGE, self._acknowledge),
            "access": (ACCESS, self._access),
            "forget": (FORGET, self._forget),
        }
        for name, (subject, handler) in endpoints.items():
            await self._service.add_endpoint(EndpointConfig(name=name, subject=subject, handler=_guarded(handler)))

    async def stop(self) -> None:
        """Take no more calls, cancel those that run, and disconnect. Waits for no broker that is silent or lost."""
        if self._service is not None:
            await _soon(self._service.stop())
        for task in list(self._calls.values()):
            task.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
        await _soon(self._client.close())

    async def _ask(self, request: Request) -> None:
        message = _validated(AskMessage, request)
        if not request._msg.reply:  # noqa: SLF001 - nats-py has no other way to ask
            raise MeshError("there is no reply subject to answer to", remedy="Send a request, not a message.")
        if message.call in self._calls:
            raise MeshError(f"call {message.call!r} is under way already", remedy="Name each call differently.")
        answer = self._watched if message.stream or message.watch else self._answer
        task = asyncio.create_task(_guarded(lambda reply: answer(message, reply))(request), name="ask")
        self._calls[message.call] = task
        task.add_done_callback(lambda _: self._calls.pop(message.call, None))

    async def _watched(self, message: AskMessage, request: Request) -> None:
        asking, token = asyncio.current_task(), new_id()
        assert asking is not None
        listener = self._listeners.add(token, request._msg.reply, message.window, asking.cancel)  # noqa: SLF001
        watching = asyncio.create_task(listener.watch(), name="watch the caller")
        try:
            await self._answer(message, request, listener)
        finally:
            self._listeners.remove(token)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _answer(self, message: AskMessage, request: Request, listener: Listener | None = None) -> None:
        emit = listener.send if listener is not None and message.stream else None
        outcome = await self._commands.ask(message.query, emit)
        await whole(request.respond(msgspec.json.encode(outcome), headers={KIND: "result"}))

    async def _cancel(self, request: Request) -> None:
        task = self._calls.get(_validated(CancelMessage, request).call)
        if task is not None:
            task.cancel()
        await _reply(request, {"cancelled": str(task is not None).lower()})

    async def _status(self, request: Request) -> None:
        await request.respond(msgspec.json.encode(self._commands.status()))

    async def _acknowledge(self, request: Request) -> None:
        message = _validated(AcknowledgeMessage, request)
        await self._commands.acknowledge(message.alert, message.actor, message.note)
        await _reply(request, {"acknowledged": message.alert})

    async def _access(self, request: Request) -> None:
        changed = await self._commands.access(_validated(AccessMessage, request))
        await request.respond(msgspec.json.encode(changed))

    async def _forget(self, request: Request) -> None:
        done = await self._commands.forget(_validated(ForgetMessage, request))
        await request.respond(msgspec.json.encode(done))


def _validated(model: type[M], request: Request) -> M:
    return model.model_validate_json(request.data or b"{}")


async def _reply(request: Request, answer: dict[str, str]) -> None:
    if request._msg.reply:  # noqa: SLF001 - nats-py has no other way to ask
        await request.respond(msgspec.json.encode(answer))


def _guarded(handler: Handler) -> Handler:
    """Errors become replies; ours are logged, the caller's are not."""

    async def call(request: Request) -> None:
        try:
            await handler(request)
        except asyncio.CancelledError:
            await _error(
                request,
                "499",
                "cancelled",
                _TAKEN_BACK,
                "",
            )
            raise
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'message'}: {item['msg']}"
                for item in error.errors(include_url=False)
            )
            await _error(request, "400", "invalid", problems, "")
        except MeshError as error:
            kind = str(getattr(error, "kind", "failed"))
            await _error(request, "422", kind, str(error), str(getattr(error, "request", "")))
        except Exception as error:
            log.exception("a call of the API failed", subject=request.subject)
            await _error(request, "500", "failed", f"{type(error).__name__}: {error}", "")

    return call


async def _error(request: Request, code: str, kind: str, message: str, asked: str) -> None:
    if not request._msg.reply:  # noqa: SLF001
        log.warning("a caller without a reply subject cannot be told", kind=kind, message=message)
        return
    body = msgspec.json.encode({"kind": kind, "message": message, "request": asked})
    await request.respond_error(code, " ".join(message.split())[:400], data=body)


async def _soon(goodbye: Coroutine[Any, Any, None]) -> None:
    """Say goodbye to the broker, if it listens."""
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await goodbye
    except (TimeoutError, OSError, RuntimeError, NatsError) as error:  # RuntimeError: uvloop's, of a closed transport
        await _log_error(error)


async def _log_error(error: Exception) -> None:
    log.warning("the API's NATS connection", error=str(error) or type(error).__name__)
