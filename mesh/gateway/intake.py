"""What comes in: who sends it, and whether it is what the endpoint takes. All that is refused is recorded."""

from typing import Any, Protocol, TypeVar

import msgspec
from pydantic import ValidationError
from starlette.requests import Request

from mesh.experts.queries import Outcome
from mesh.gateway.bodies import Body
from mesh.gateway.keys import KeyRing
from mesh.gateway.problems import Problem, invalid_body
from mesh.gateway.runs import Ask

B = TypeVar("B", bound=Body)


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

    def __init__(self, requests: Asked, keys: KeyRing, max_body_bytes: int) -> None:
        self._requests = requests
        self._keys = keys
        self._max_body_bytes = max_body_bytes

    def caller(self, request: Request) -> str:
        """Who asks, as the journal names it."""
        try:
            return self._keys.admit(request.headers.get("authorization", ""))
        except Problem as problem:
            raise self.refused("gateway", problem) from None

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

    async def _json(self, request: Request) -> Any:  # noqa: ANN401 - not looked at yet
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a page in a browser could send anything else without being asked
            raise Problem(415, f"the content type is {kind!r}, it must be application/json", code="invalid")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > self._max_body_bytes:
                limit = f"gateway.max_body_bytes is {self._max_body_bytes}"
                raise Problem(413, f"the body has more bytes than are taken: {limit}", code="invalid")
        try:
            return msgspec.json.decode(bytes(data))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Problem(400, f"the body is not JSON: {error}", code="invalid") from None
