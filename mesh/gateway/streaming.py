"""Answers that go out as they come: the events of each endpoint's stream."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from starlette.requests import Request

from mesh.errors import MeshError
from mesh.experts.queries import Outcome
from mesh.gateway.answers import Json
from mesh.gateway.event_stream import DONE, frame
from mesh.gateway.problems import problem_of
from mesh.gateway.response_objects import ResponseObject
from mesh.gateway.runs import Run, unless_gone

Finished = Callable[[Outcome], None]


class Shape(Protocol):
    """How an outcome looks in pieces: `answers.ChatAnswer` or `answers.TextAnswer`."""

    def begin(self, request: str) -> Json:
        """The first chunk."""
        ...

    def piece(self, request: str, text: str) -> Json:
        """A chunk of text."""
        ...

    def end(self, outcome: Outcome) -> list[Json]:
        """The chunks after the text."""
        ...

    def usage(self, outcome: Outcome) -> Json:
        """The chunk with the usage."""
        ...


class Stream:
    """A run whose first piece, if it has any, is here: what failed before it had a status of its own."""

    def __init__(self, run: Run, pieces: AsyncIterator[str], first: str | None) -> None:
        self.run = run
        self._pieces = pieces
        self._first = first

    @classmethod
    async def begin(cls, request: Request, run: Run) -> "Stream":
        """Wait for the first piece. Raises what `Requests.ask` raises, and ClientGone."""
        pieces = run.pieces()
        try:
            first = await unless_gone(request.receive, _next(pieces))
            if first is None:
                await run.outcome()  # an empty answer is one
        except BaseException:
            await run.__aexit__()
            raise
        return cls(run, pieces, first)

    async def pieces(self) -> AsyncIterator[str]:
        """All pieces."""
        if self._first is not None:
            yield self._first
            async for piece in self._pieces:
                yield piece


async def chunks(stream: Stream, shape: Shape, finished: Finished, *, wants_usage: bool) -> AsyncIterator[bytes]:
    """The events of a completion, up to ``[DONE]``; one that breaks ends with an error instead."""
    async with stream.run as run:
        yield frame(shape.begin(run.request))
        try:
            async for piece in stream.pieces():
                yield frame(shape.piece(run.request, piece))
            outcome = await run.outcome()
        except MeshError as error:
            yield frame(problem_of(error).body())
            return
        finished(outcome)
        for chunk in shape.end(outcome):
            yield frame(chunk)
        if wants_usage:
            yield frame(shape.usage(outcome))
        yield DONE


async def response_events(stream: Stream, shape: ResponseObject, finished: Finished) -> AsyncIterator[bytes]:
    """The events of a response; one that breaks ends with ``response.failed``."""
    async with stream.run as run:
        for event in shape.begin(run.request):
            yield frame(event, event["type"])
        try:
            async for piece in stream.pieces():
                for event in shape.piece(run.request, piece):
                    yield frame(event, event["type"])
            outcome = await run.outcome()
        except MeshError as error:
            problem = problem_of(error)
            yield frame(shape.failed(run.request, problem.code, problem.message), "response.failed")
            return
        finished(outcome)
        for event in shape.end(outcome):
            yield frame(event, event["type"])


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)
