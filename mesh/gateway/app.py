"""The gateway's HTTP interface: OpenAI's endpoints over the node's own requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mesh.clock import Clock
from mesh.errors import MeshError
from mesh.experts.queries import Outcome
from mesh.gateway import answers
from mesh.gateway.bodies import ChatBody, CompletionBody, EmbeddingsBody, ResponsesBody
from mesh.gateway.event_stream import EventStream
from mesh.gateway.hosts import HostNames
from mesh.gateway.intake import Asked, Intake
from mesh.gateway.keys import KeyRing
from mesh.gateway.models import Catalogue, Choice, Offers, choose, names, owner_of
from mesh.gateway.openapi import document
from mesh.gateway.problems import Problem, problem_of
from mesh.gateway.queries import Fields, chat_query, completion_queries, embeddings_query, responses_query
from mesh.gateway.response_objects import ResponseObject
from mesh.gateway.runs import ClientGone, Run, unless_gone
from mesh.gateway.streaming import Shape, Stream, chunks, response_events

Handler = Callable[[Request], Awaitable[Response]]


class Gateway:
    """``app`` is what is served. ``ready`` says why the node does not serve, or nothing."""

    def __init__(
        self,
        requests: Asked,
        catalogue: Callable[[], Catalogue],
        keys: KeyRing,
        clock: Clock,
        *,
        max_body_bytes: int,
        hosts: HostNames,
        ready: Callable[[], str] = lambda: "",
    ) -> None:
        self._requests = requests
        self._catalogue = catalogue
        self._clock = clock
        self._ready = ready
        self._intake = Intake(requests, keys, max_body_bytes, hosts)
        handlers = {HTTPException: _http_problem, Exception: _unforeseen}
        self.app = Starlette(routes=self._routes(), exception_handlers=handlers)

    def _routes(self) -> list[Route]:
        posts = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
        }
        gets = {
            "/v1/models": self._models,
            "/v1/models/{model:path}": self._model,
            "/openapi.json": self._openapi,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        return [
            *(Route(path, self._guarded(handler), methods=["POST"]) for path, handler in posts.items()),
            *(Route(path, self._guarded(handler), methods=["GET"]) for path, handler in gets.items()),
        ]

    # -- answers -------------------------------------------------------------------------------------------------

    async def _chat(self, request: Request) -> Response:
        caller = self._intake.caller(request)
        body = await self._intake.body(request, ChatBody, caller)
        query = self._query(caller, body.model, lambda choice: chat_query(body, choice, caller))
        shape = answers.ChatAnswer(body.model, self._created())
        if body.stream:
            return await self._stream(request, query, shape, wants_usage=body.wants_usage)
        outcome = await self._ask(request, query)
        return _json(shape.whole(outcome), outcome.request)

    async def _completions(self, request: Request) -> Response:
        caller = self._intake.caller(request)
        body = await self._intake.body(request, CompletionBody, caller)
        queries = self._query(caller, body.model, lambda choice: completion_queries(body, choice, caller))
        shape = answers.TextAnswer(body.model, self._created())
        if body.stream and len(queries) > 1:
            problem = Problem(400, "a stream takes one prompt", code="invalid", param="prompt")
            raise self._intake.refused(caller, problem)
        if body.stream:
            return await self._stream(request, queries[0], shape, wants_usage=body.wants_usage)
        outcomes: list[Outcome] = await unless_gone(request.receive, self._all(queries))
        return _json(shape.whole(*outcomes), outcomes[0].request)

    async def _responses(self, request: Request) -> Response:
        caller = self._intake.caller(request)
        body = await self._intake.body(request, ResponsesBody, caller)
        query = self._query(caller, body.model, lambda choice: responses_query(body, choice, caller))
        shape = ResponseObject(body.model, self._created())
        if body.stream:
            stream = await Stream.begin(request, Run(self._requests.ask, query))
            events = response_events(stream, shape, partial(self._intake.spent, query))
            return EventStream(events, _named(stream.run.request))
        outcome = await self._ask(request, query)
        return _json(shape.whole(outcome), outcome.request)

    async def _embeddings(self, request: Request) -> Response:
        caller = self._intake.caller(request)
        body = await self._intake.body(request, EmbeddingsBody, caller)
        texts = [body.input] if isinstance(body.input, str) else body.input
        query = self._query(caller, body.model, lambda choice: embeddings_query(texts, body, choice, caller))
        outcome = await self._ask(request, query)
        try:
            return _json(answers.embeddings(body.model, outcome, body.encoding_format), outcome.request)
        except ValueError as error:
            raise Problem(502, str(error), kind="server_error", code="failed", request=outcome.request) from None

    # -- what there is -------------------------------------------------------------------------------------------

    async def _models(self, request: Request) -> Response:
        self._intake.caller(request)
        offers = self._catalogue().offers
        return _json({"object": "list", "data": [_listed(name, offers) for name in names(offers)]})

    async def _model(self, request: Request) -> Response:
        self._intake.caller(request)
        catalogue, name = self._catalogue(), str(request.path_params["model"])
        choose(name, catalogue, self._clock.now())
        return _json(_listed(name, catalogue.offers))

    async def _openapi(self, _request: Request) -> Response:
        return _json(document())

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        why = self._ready()
        return JSONResponse({"status": why or "ready"}, status_code=503 if why else 200)

    # -- asking --------------------------------------------------------------------------------------------------

    def _query(self, caller: str, model: str, make: Callable[[Choice], Any]) -> Any:  # noqa: ANN401
        try:
            return make(choose(model, self._catalogue(), self._clock.now()))
        except Problem as problem:
            raise self._intake.refused(caller, problem) from None

    async def _ask(self, request: Request, query: Fields) -> Outcome:
        outcome: Outcome = await unless_gone(request.receive, self._requests.ask(query))
        self._intake.spent(query, outcome)
        return outcome

    async def _all(self, queries: list[Fields]) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._requests.ask(query)) for query in queries]
        outcomes = [task.result() for task in tasks]
        for query, outcome in zip(queries, outcomes, strict=True):
            self._intake.spent(query, outcome)
        return outcomes

    async def _stream(self, request: Request, query: Fields, shape: Shape, *, wants_usage: bool) -> Response:
        stream = await Stream.begin(request, Run(self._requests.ask, query))
        events = chunks(stream, shape, partial(self._intake.spent, query), wants_usage=wants_usage)
        return EventStream(events, _named(stream.run.request))

    def _created(self) -> int:
        return int(self._clock.now())

    def _guarded(self, handler: Handler) -> Handler:
        """Whatever goes wrong is answered in OpenAI's shape."""

        async def answer(request: Request) -> Response:
            try:
                self._intake.host(request)
                return await handler(request)
            except Problem as problem:
                return _error(problem)
            except (ClientGone, ClientDisconnect):
                return Response(status_code=499)
            except MeshError as error:
                return _error(problem_of(error))
            except ExceptionGroup as group:  # several prompts at once: the first that failed speaks for all
                errors = [each for each in group.exceptions if isinstance(each, MeshError)]
                if not errors:
                    raise
                return _error(problem_of(errors[0]))

        return answer


def _listed(name: str, offers: Offers) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner_of(name, offers)}


def _named(request: str) -> dict[str, str]:
    return {"x-request-id": request}


def _json(body: Mapping[str, Any], request: str = "") -> Response:
    headers = _named(request) if request else {}
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)


def _error(problem: Problem) -> Response:
    return JSONResponse(problem.body(), status_code=problem.status, headers=problem.headers())


async def _unforeseen(_request: Request, error: Exception) -> Response:
    """A defect: uvicorn logs it."""
    return _error(Problem(500, f"The gateway failed: {type(error).__name__}", kind="server_error", code="failed"))


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "invalid"
    message = f"{request.method} {request.url.path}: {error.detail}; GET /openapi.json says what there is"
    body = Problem(error.status_code, message, code=code).body()
    return JSONResponse(body, status_code=error.status_code, headers=dict(error.headers or {}))
