"""What comes in: who sends it, and whether it is what the endpoint takes. All that is refused is recorded."""

import asyncio
from typing import Any, Protocol, TypeVar

import msgspec
from pydantic import ValidationError
from starlette.requests import Request

from mesh.experts.queries import Outcome
from mesh.gateway.bodies import Body
from mesh.gateway.hosts import HostNames
from mesh.gateway.keys import KeyRing
from mesh.gateway.problems import Problem, invalid_body
from mesh.gateway.runs import Ask

B = TypeVar("B", bound=Body)
# A body has so long, and a second more for each so many bytes that came.
_BODY_S = 20.0
_SLOWEST_BYTES_PER_S = 4096
# So many of the largest bodies are read at the same time.
_BODIES = 8
# So many strangers without a key are written down in a minute; the others are answered alike.
_STRANGERS_PER_MINUTE = 60


class Asked(Protocol):
    """`mesh.experts.requests.Requests`, as far as the gateway uses it."""

    @property
    def ask(self) -> Ask:
        """Answer a query."""
        ...

    def refuse(self, caller: str, message: str) -> str:
        """Record what is no query; the id that it has in the journal."""
        ...


class Intake:
    """Reads requests. Raises Problem, with the id of the rejection in the journal."""

    def __init__(self, requests: Asked, keys: KeyRing, max_body_bytes: int, hosts: HostNames) -> None:
        self._requests = requests
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._hosts = hosts
        self._held_bytes = 0
        self._strangers = 0
        self._minute = -1

    def host(self, request: Request) -> None:
        """Raises Problem for a name that this node does not go by."""
        names = request.headers.getlist("host")
        if not self._hosts.admits(names):
            said = ", ".join(names)[:100]
            message = f"This node does not go by the name {said!r}. `hosts` in [gateway] lists more names."
            raise self._stranger(Problem(421, message, code="unknown_host"))

    def caller(self, request: Request) -> str:
        """Who asks, as the journal names it."""
        try:
            return self._keys.admit(request.headers.get("authorization", ""))
        except Problem as problem:
            raise self._stranger(problem) from None

    async def body(self, request: Request, model: type[B], caller: str) -> B:
        """The body, as ``model`` wants it."""
        try:
            return model.model_validate(await self._json(request))
        except ValidationError as error:
            raise self.refused(caller, invalid_body(error)) from None
        except Problem as problem:
            raise self.refused(caller, problem) from None

    def refused(self, caller: str, problem: Problem) -> Problem:
        """The problem, recorded."""
        problem.request = self._requests.refuse(caller, problem.message)
        return problem

    def spent(self, query: dict[str, Any], outcome: Outcome) -> None:
        """Count an answer against its caller's quota."""
        self._keys.used(query["caller"], max(0, outcome.tokens_in) + max(0, outcome.tokens_out))

    def _stranger(self, problem: Problem) -> Problem:
        """The problem, recorded unless there are many: who has no key must not fill the journal."""
        minute = int(asyncio.get_running_loop().time() // 60)
        self._strangers = self._strangers + 1 if minute == self._minute else 1
        self._minute = minute
        return self.refused("gateway", problem) if self._strangers <= _STRANGERS_PER_MINUTE else problem

    async def _json(self, request: Request) -> Any:  # noqa: ANN401 - not looked at yet
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a page in a browser could send anything else without being asked
            raise Problem(415, f"the content type is {kind!r}, it must be application/json", code="invalid")
        data = bytearray()
        try:
            await self._read(request, data)
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Problem(400, f"the body is not JSON: {error}", code="invalid") from None
        except TimeoutError:
            message = f"the body came too slowly: {len(data)} bytes; {_SLOWEST_BYTES_PER_S} a second are the least"
            raise Problem(408, message, code="invalid") from None
        finally:
            self._held_bytes -= len(data)

    async def _read(self, request: Request, data: bytearray) -> None:
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(_BODY_S) as deadline:
            async for chunk in request.stream():
                data += chunk
                self._held_bytes += len(chunk)
                if len(data) > self._max_body_bytes:
                    limit = f"gateway.max_body_bytes is {self._max_body_bytes}"
                    raise Problem(413, f"the body has more bytes than are taken: {limit}", code="invalid")
                if self._held_bytes > _BODIES * self._max_body_bytes:
                    message = "too many large bodies are being read"
                    raise Problem(429, message, kind="rate_limit_error", code="overloaded", retry_after_s=1.0)
                deadline.reschedule(began + _BODY_S + len(data) / _SLOWEST_BYTES_PER_S)
