"""Which parts of a request are asked of experts of their own: decided once, and recorded (`request.split`)."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from pydantic import JsonValue

from mesh.config import RoutingConfig
from mesh.events.vocabulary.requests import Part, RequestSplit
from mesh.experts.attempt import clean
from mesh.experts.attempts import Attempts
from mesh.experts.chat import ask_instead
from mesh.experts.classifier import Classifier
from mesh.experts.parts import MAX_PARTS, asked_of, split
from mesh.experts.plan import Plan, part_plan
from mesh.experts.queries import AUTO, GivenPart, Query
from mesh.experts.state import RoutingState

# Domains that somebody chose, or that a question is like; what is like nothing says nothing about how it differs.
_SURE = frozenset({"caller", "embedding", "keywords"})


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, in parts that are somewhere in it, in this order."""

    by: str
    introduction: str
    parts: tuple[GivenPart, ...]


def cut_of(plan: Plan, query: Query) -> Cut | None:
    """The parts of a request: as they were given, or found; None where it has none, or is not to be split. Pure."""
    if plan.strategy != "distributed" or plan.split == "never":
        return None
    if query.parts:
        return Cut(by="caller", introduction=query.introduction, parts=query.parts)
    found = split(plan.content)
    if found is None or (query.chat is not None and ask_instead(query.chat, plan.content, "") is None):
        return None
    parts = tuple(GivenPart(content=part) for part in found.parts)
    return Cut(by=found.by, introduction=found.introduction, parts=parts)


class Splitting:
    """``look(plan, domain)`` looks for somebody who serves a domain, where nobody known does."""

    def __init__(
        self,
        classifier: Classifier,
        config: RoutingConfig,
        state: RoutingState,
        look: Callable[[Plan, str], Awaitable[None]],
    ) -> None:
        self._classifier = classifier
        self._config = config
        self._state = state
        self._look = look

    async def plans(self, attempts: Attempts, query: Query) -> tuple[Plan, ...]:
        """The plan of each part; none for a request that stays whole."""
        cut, before = cut_of(attempts.plan, query), attempts.elapsed_ms
        if cut is None:
            return ()
        many = len(cut.parts) > MAX_PARTS
        parts = () if many else await self._parts(attempts, query, cut)
        whole = f"{len(cut.parts)} parts are more than {MAX_PARTS}" if many else _why_whole(attempts.plan, parts)
        took_ms = round(attempts.elapsed_ms - before, 3)
        fact = RequestSplit(request=attempts.plan.request, by=cut.by, parts=parts, took_ms=took_ms, whole=whole)
        attempts.record(fact)
        return () if whole else self._plans(attempts.plan, query, cut, parts)

    async def _parts(self, attempts: Attempts, query: Query, cut: Cut) -> tuple[Part, ...]:
        found = await asyncio.gather(*(self._domain(attempts, query, part) for part in cut.parts))
        wanted = {part.domain for part in found} - self._served()
        await asyncio.gather(*(self._look(attempts.plan, domain) for domain in sorted(wanted)))
        served, placed, start = self._served(), [], len(cut.introduction)
        for given, part in zip(cut.parts, found, strict=True):
            start = attempts.plan.content.index(given.content, start)
            here = msgspec.structs.replace(part, start=start, chars=len(given.content))
            placed.append(_served_part(here, attempts.plan, served))
            start += len(given.content)
        return tuple(placed)

    async def _domain(self, attempts: Attempts, query: Query, part: GivenPart) -> Part:
        """The part's own, that of the request, or the one that its text is like."""
        domain = part.domain if part.domain != AUTO else query.domain
        if domain not in ("", AUTO):
            return Part(start=0, chars=0, domain=domain, by="caller")
        if query.expert:
            return Part(start=0, chars=0, domain=attempts.plan.domain, by="request", note="the caller named the expert")
        found = await self._classifier.classify(asked_of(part.content), attempts.remaining_s)
        return Part(start=0, chars=0, domain=found.domain, by=found.by, scores=found.scores, note=clean(found.note))

    def _served(self) -> set[str]:
        offers = (offer for known in self._state.offers.values() for offer in known.values())
        return {domain for offer in offers for domain in offer.domains}

    def _plans(self, whole: Plan, query: Query, cut: Cut, parts: tuple[Part, ...]) -> tuple[Plan, ...]:
        return tuple(
            part_plan(whole, number, part.by, _part_query(query, cut, given, part), self._config, self._state)
            for number, (given, part) in enumerate(zip(cut.parts, parts, strict=True), 1)
        )


def _served_part(part: Part, plan: Plan, served: set[str]) -> Part:
    """A part that is like the questions of a domain that nobody serves goes where all of it would have gone."""
    if part.by in ("caller", "request") or part.domain in served:
        return part
    return msgspec.structs.replace(part, domain=plan.domain, by="request", note=f"nobody serves {part.domain}")


def _why_whole(plan: Plan, parts: tuple[Part, ...]) -> str:
    several = len({part.domain for part in parts if part.by in _SURE}) > 1
    return "" if plan.split == "always" or several else "its parts are not of several domains"


def _part_query(query: Query, cut: Cut, given: GivenPart, part: Part) -> Query:
    """The part alone, for every expert; with what introduces it, for those that take conversations."""
    content, introduced = asked_of(given.content), f"{cut.introduction}{given.content}".strip()
    chat: dict[str, JsonValue] | None = None
    if query.chat is not None:
        chat = ask_instead(query.chat, query.content, introduced)
    elif cut.introduction.strip():
        chat = {"messages": [{"role": "user", "content": introduced}]}
    domain = query.domain if query.expert and part.by == "request" else part.domain
    return query.model_copy(update={"content": content, "chat": chat, "domain": domain})


__all__ = ["Cut", "Splitting", "cut_of"]
