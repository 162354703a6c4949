"""Why a request went where it went: the decision made again from the journal, and the request's whole trail. Pure."""

from collections.abc import Iterable

import msgspec

from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary.experts import ExpertEjected, ExpertEquivocated
from mesh.events.vocabulary.network import PeerGreeted
from mesh.events.vocabulary.node import NodeStarted
from mesh.events.vocabulary.requests import (
    Count,
    Part,
    PartEnd,
    RequestAnswered,
    RequestAttemptFailed,
    RequestClassified,
    RequestCompleted,
    RequestDispatched,
    RequestDissented,
    RequestFailed,
    RequestFellBack,
    RequestHedged,
    RequestRouted,
    RequestSplit,
    Vote,
)
from mesh.experts.candidates import Candidate, Exclusion, RoutingInputs
from mesh.experts.known import Target
from mesh.experts.parts import part_ids
from mesh.experts.policies import policy_named
from mesh.experts.routing import RoutingDecision, decide
from mesh.experts.state import RoutingState

IDENTICAL = "identical"


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate with its place in the ranking (0 is the first) and what put it there."""

    place: int
    score: float
    note: str
    chosen: bool
    candidate: Candidate


class DecisionExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded decision. ``recomputed`` is ``identical``, or says in what way it is not."""

    position: int
    time: str
    attempt: int
    policy: str
    policy_version: int
    as_of: int
    best: str
    domain: str
    domain_by: str
    seed: int
    options: tuple[Option, ...]
    excluded: tuple[Exclusion, ...]
    other_domains: int
    not_listed: int
    chosen: tuple[Target, ...]
    recomputed: str
    purpose: str = "first"
    withheld: str = ""
    part: int = 0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the request, in a line."""

    position: int
    time: str
    origin: str
    fact: str
    text: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the journal knows of one request; ``names`` are what nodes call themselves, by PeerId.

    ``parts`` are those that it was split into, from the first, ``ends`` what became of them.
    """

    request: str
    decisions: tuple[DecisionExplained, ...]
    timeline: tuple[Step, ...]
    votes: tuple[Vote, ...]
    failures: tuple[str, ...]
    fallback: str
    count: Count | None = None
    cached_from: str = ""
    names: dict[str, str] = {}
    parts: tuple[Part, ...] = ()
    ends: tuple[PartEnd, ...] = ()


class Explainer:
    """Explains one request: feed it the journal from the first event on, in order, then ask for the `result`.

    ``local`` is the node whose journal it is. The journal is folded once, however many decisions there were. With
    ``state``, which is what routing knew at some position before the request, feed it what follows that position.
    """

    def __init__(self, local: str, request: str, state: RoutingState | None = None) -> None:
        self._state = RoutingState(local) if state is None else state
        self._request = request
        self._ids = frozenset((request, *part_ids(request)))
        self._decisions: list[DecisionExplained] = []
        self._timeline: list[Step] = []
        self._end: RequestCompleted | RequestFailed | None = None
        self._parts: tuple[Part, ...] = ()
        self._names: dict[str, str] = {}

    def feed(self, event: Event) -> None:
        """Take the next event of the journal."""
        fact = event.fact
        if event.correlation and event.correlation in self._ids:
            self._timeline.append(_step(event))
            if isinstance(fact, RequestRouted) and event.origin == self._state.local:
                self._decisions.append(_explained(event, fact, self._recomputed(fact)))
            elif isinstance(fact, RequestSplit) and not fact.whole:
                self._parts = fact.parts
            elif isinstance(fact, RequestCompleted | RequestFailed):
                self._end = fact
        if isinstance(fact, PeerGreeted):
            self._names[fact.peer] = fact.name
        elif isinstance(fact, NodeStarted):
            self._names[event.origin] = fact.name
        self._state.apply(event)

    def _recomputed(self, fact: RequestRouted) -> str:
        if fact.as_of != self._state.position:
            return f"not comparable: it was made from position {fact.as_of} and follows {self._state.position}"
        return compare(self._state, fact)

    def result(self) -> Explanation:
        """The explanation. Raises LookupError when the journal has nothing of the request."""
        if not self._timeline:
            raise LookupError(f"the journal has no event of the request {self._request!r}")
        end = self._end
        return Explanation(
            request=self._request,
            decisions=tuple(self._decisions),
            timeline=tuple(self._timeline),
            votes=end.votes if end is not None else (),
            failures=end.failures if end is not None else (),
            fallback=end.fallback if isinstance(end, RequestCompleted) else "",
            count=end.count if end is not None else None,
            cached_from=end.cached_from if isinstance(end, RequestCompleted) else "",
            parts=self._parts,
            ends=end.parts if end is not None else (),
            names={peer: name for peer, name in self._names.items() if name and self._mentions(peer)},
        )

    def _mentions(self, peer: str) -> bool:
        peers = {option.candidate.peer for decision in self._decisions for option in decision.options}
        peers |= {exclusion.peer for decision in self._decisions for exclusion in decision.excluded}
        peers |= {end.peer for end in self._end.parts} if self._end is not None else set()
        return peer in peers or any(peer in step.text for step in self._timeline)


def explain(local: str, request: str, events: Iterable[Event]) -> Explanation:
    """`Explainer` over a whole journal at once."""
    explainer = Explainer(local, request)
    for event in events:
        explainer.feed(event)
    return explainer.result()


def recompute(events: Iterable[Event], fact: RequestRouted) -> str:
    """``identical`` when folding ``events`` (the journal up to ``as_of``) and deciding again gives the same bytes.

    Otherwise what differs, in a sentence.
    """
    state = RoutingState(msgspec.json.decode(fact.inputs, type=RoutingInputs).local)
    for event in events:
        if event.position <= fact.as_of:
            state.apply(event)
    return compare(state, fact)


def compare(state: RoutingState, fact: RequestRouted) -> str:
    """`recompute`, from a state that is already folded up to ``as_of``."""
    try:
        inputs = msgspec.json.decode(fact.inputs, type=RoutingInputs)
        current = policy_named(inputs.policy).version
    except (ValueError, LookupError) as error:
        return f"not comparable: {error}"
    if inputs.policy_version != current:
        return f"not comparable: {inputs.policy} was version {inputs.policy_version} then and is {current} now"
    again = msgspec.json.encode(decide(state, inputs))
    recorded = bytes(fact.decision)
    return IDENTICAL if again == recorded else _difference(recorded, again)


def _difference(recorded: bytes, again: bytes) -> str:
    place = next((i for i, (a, b) in enumerate(zip(recorded, again, strict=False)) if a != b), None)
    where = min(len(recorded), len(again)) if place is None else place
    return f"different from byte {where}: recorded {_near(recorded, where)}, recomputed {_near(again, where)}"


def _near(data: bytes, place: int) -> str:
    return repr(data[max(0, place - 30) : place + 30].decode(errors="replace"))


def _explained(event: Event, fact: RequestRouted, recomputed: str) -> DecisionExplained:
    inputs = msgspec.json.decode(fact.inputs, type=RoutingInputs)
    decision = msgspec.json.decode(fact.decision, type=RoutingDecision)
    candidates = {one.target: one for one in decision.candidates}
    return DecisionExplained(
        position=event.position,
        time=event.time,
        attempt=fact.attempt,
        policy=fact.policy,
        policy_version=fact.policy_version,
        as_of=fact.as_of,
        best=decision.best,
        domain=inputs.domain,
        domain_by=inputs.domain_by,
        seed=inputs.seed,
        options=tuple(
            Option(
                place=place,
                score=one.score,
                note=one.note,
                chosen=one.target in decision.chosen,
                candidate=candidates[one.target],
            )
            for place, one in enumerate(decision.ranking)
        ),
        excluded=decision.excluded,
        other_domains=decision.other_domains,
        not_listed=decision.not_listed,
        chosen=decision.chosen,
        recomputed=recomputed,
        purpose=inputs.purpose,
        withheld=decision.withheld,
        part=fact.part,
    )


def _step(event: Event) -> Step:
    return Step(position=event.position, time=event.time, origin=event.origin, fact=event.type, text=_line(event.fact))


def _choice_line(fact: RequestRouted | RequestSplit | RequestDispatched) -> str:
    if isinstance(fact, RequestSplit):
        domains = ", ".join(f"{number} {part.domain}" for number, part in enumerate(fact.parts, 1))
        return f"by {fact.by}: {domains}" + (f"; not done: {fact.whole}" if fact.whole else "")
    if isinstance(fact, RequestDispatched):
        why = "" if fact.purpose == "first" else f" ({fact.purpose})"
        of = f" of part {fact.part}" if fact.part else ""
        return f"attempt {fact.attempt}{of} to {fact.peer}/{fact.expert}{why}, {fact.timeout_ms} ms left"
    chosen = msgspec.json.decode(fact.decision, type=RoutingDecision).chosen
    whom = ", ".join(str(target) for target in chosen) or "nobody"
    part = f" for part {fact.part}" if fact.part else ""
    return f"{fact.policy} chose {whom}{part}, as of position {fact.as_of}"


def _line(fact: Fact) -> str:
    match fact:
        case RequestRouted() | RequestSplit() | RequestDispatched():
            return _choice_line(fact)
        case RequestHedged():
            return f"attempt {fact.attempt} is late after {fact.after_ms:.0f} ms: {fact.by_peer}/{fact.by_expert} too"
        case ExpertEjected():
            return f"{fact.rule}: {fact.peer}/{fact.expert} for {fact.for_s:g} s, {fact.detail}"
        case RequestAnswered():
            return f"attempt {fact.attempt}: {fact.answer_bytes} bytes after {fact.latency_ms:.0f} ms"
        case RequestAttemptFailed():
            return f"attempt {fact.attempt}: {fact.kind}, {fact.message}"
        case RequestClassified():
            scores = ", ".join(f"{domain} {score:.2f}" for domain, score in list(fact.scores.items())[:4])
            return f"{fact.domain} by {fact.by} ({scores})" + (f", {fact.note}" if fact.note else "")
        case RequestFellBack() if fact.domain:
            part = f" for part {fact.part}" if fact.part else ""
            return f"to the domain {fact.domain}{part}: {fact.reason}"
        case RequestDissented():
            return f"{fact.peer}/{fact.expert} signed another answer, {fact.answer_digest[:16]}"
        case ExpertEquivocated():
            both = f"{fact.first.answer_digest[:16]} and {fact.second.answer_digest[:16]}"
            return f"{fact.peer}/{fact.expert} signed two different answers, {both}"
        case _:
            return _fields(fact)


_APART = {"request", "sealed", "parts", "votes", "count"}
_LINE_CHARS = 400


def _fields(fact: Fact) -> str:
    """The short fields of a fact, without those that `Explanation` has as its own."""
    shown = {name: getattr(fact, name) for name in fact.__struct_fields__ if name not in _APART}
    text = ", ".join(f"{name}={_plain(value)}" for name, value in shown.items() if _says_something(name, value))
    return text if len(text) <= _LINE_CHARS else text[: _LINE_CHARS - 1] + "…"


def _plain(value: object) -> str:
    """A value for people: not as Python writes it."""
    if isinstance(value, tuple | list):
        return " and ".join(map(_plain, value))
    if isinstance(value, dict | msgspec.Struct):
        return msgspec.json.encode(value).decode()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value}"


def _says_something(name: str, value: object) -> bool:
    return value not in ("", (), None) and (name, value) != ("part", 0)
