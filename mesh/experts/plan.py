"""What was settled about a request when it was taken in: the caller's choices with the configuration's filled in."""

import msgspec
from pydantic import JsonValue

from mesh.config import ContentPolicy, RoutingConfig
from mesh.experts.answers import digest
from mesh.experts.calls import Task
from mesh.experts.chat import encode_chat, shows_something
from mesh.experts.domains import Classified, classify
from mesh.experts.parts import part_id
from mesh.experts.queries import AUTO, DOMAINS, Query
from mesh.experts.rules import Rules
from mesh.experts.state import RoutingState
from mesh.experts.voting import Voting, make_voting

CONVERSATION_CHARS = 32
_FANS_OUT = ("distributed", "consensus")
_GUESSED = ("keywords", "default")
# How a domain is found that nobody named; ``request`` is that of the whole, which a part may take over.
_GUESSES = frozenset({"embedding", "keywords", "default", "request"})
# How it is found where the guess came to nothing: it is `mesh.config.RoutingConfig.default_domain`.
INSTEAD = "fallback"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing in here changes during the life of the request.

    ``route_domain`` is what candidates must serve; empty where the caller named an expert and no domain.
    ``timeout_s`` is the whole time the caller gave. ``chat`` is JSON or empty, and counts in ``content_bytes``.
    ``conversation`` is a digest: what callers call their conversations stays with them.
    ``held`` is false where the answer is handed on in pieces and kept nowhere.
    ``split`` is ``auto``, ``always`` or ``never``, ``parts`` what the caller split it into. ``part`` is the number of
    the part that this is the plan of; 0: of all. ``instead`` is the plan for the default domain, where this one is for
    a domain that was guessed.
    """

    request: str
    caller: str
    content: str
    content_bytes: int
    domain: str
    domain_by: str
    route_domain: str
    expert: str
    peer: str
    strategy: str
    policy: str
    fan_out: int
    voting: Voting
    attempts: int
    timeout_s: float
    whole: bool
    options: dict[str, JsonValue]
    chat: str = ""
    task: Task = "answer"
    needs: tuple[str, ...] = ()
    cache: str = ""
    fallback: str = "auto"
    conversation: str = ""
    hedge: bool = True
    rules: Rules = Rules()
    keep: ContentPolicy | None = None
    held: bool = True
    split: str = "never"
    parts: tuple[str, ...] = ()
    part: int = 0
    instead: "Plan | None" = None

    @property
    def known_as(self) -> str:
        """The id by which experts know it, and sign their answers."""
        return part_id(self.request, self.part) if self.part else self.request


def make_plan(request: str, query: Query, config: RoutingConfig, state: RoutingState) -> Plan:
    """Fill in what the query leaves open. Raises ValueError for choices that contradict each other or a limit."""
    domain = _domain_of(query, config, state)
    config = in_domain(config, domain.domain)
    strategy = query.strategy or ("distributed" if _splits(query) else config.strategy)
    if strategy != "distributed" and _splits(query):
        raise ValueError(f"{'parts' if query.parts else 'split'} needs the strategy distributed, not {strategy}")
    chat = encode_chat(query.chat)
    size = len(query.content.encode()) + len(chat.encode())
    if size > config.max_content_bytes:
        raise ValueError(f"the content has {size} bytes; routing.max_content_bytes is {config.max_content_bytes}")
    if query.delivery == "pieces":
        _check_can_go_by(query, strategy)
    voting = make_voting(query, strategy, config.fan_out, config.consensus)
    return Plan(
        request=request,
        caller=query.caller,
        content=query.content,
        content_bytes=size,
        domain=domain.domain,
        domain_by=domain.by,
        route_domain="" if domain.by in ("expert", "task") else domain.domain,
        expert=query.expert,
        peer=query.peer,
        strategy=strategy,
        policy=query.policy or config.policy,
        fan_out=voting.fan_out if strategy in _FANS_OUT else 1,
        voting=voting,
        attempts=config.attempts,
        timeout_s=query.timeout_s or config.timeout_s,
        whole=query.delivery == "whole",
        options=query.options,
        chat=chat,
        task=query.task,
        needs=_needs(query),
        cache=query.cache,
        fallback=query.fallback or config.fallback,
        conversation=digest(query.conversation)[:CONVERSATION_CHARS] if query.conversation else "",
        hedge=config.hedge,
        rules=_rules(config),
        keep=query.keep,
        held=query.delivery != "pieces",
        split=_split(query, strategy, config),
        parts=tuple(f"{part.domain} {part.content}" for part in query.parts),
    )


def _check_can_go_by(query: Query, strategy: str) -> None:
    """What needs the whole answer contradicts ``delivery = "pieces"``. Raises ValueError."""
    needs_all = {
        f"the strategy {strategy}": strategy in _FANS_OUT,
        "the cache": query.cache == "on",
        "the task embed": query.task == "embed",
        "what calls tools": query.chat is not None and bool(query.chat.get("tools")),
    }
    wanted = [what for what, is_so in needs_all.items() if is_so]
    if wanted:
        raise ValueError(f"delivery = 'pieces' holds the whole answer nowhere, and {wanted[0]} needs it")


def part_plan(whole: Plan, number: int, by: str, query: Query, config: RoutingConfig, state: RoutingState) -> Plan:
    """The plan of part ``number`` of ``whole``: what ``query`` asks, of the best expert of the domain found ``by``."""
    settled = query.model_copy(update={"strategy": "best_peer", "split": "never", "parts": (), "fan_out": 0})
    plan = make_plan(whole.request, settled, config, state)
    by = plan.domain_by if query.expert else by
    plan = msgspec.structs.replace(
        plan, part=number, domain_by=by, timeout_s=whole.timeout_s, fallback=whole.fallback, whole=True
    )
    return _with_instead(plan, settled, config, state)


def _splits(query: Query) -> bool:
    """Whether the caller wants it to be split."""
    return bool(query.parts) or query.split in ("auto", "always")


def _split(query: Query, strategy: str, config: RoutingConfig) -> str:
    """Where an expert is to call tools, to make vectors, or to be just this one, there is nothing to share out."""
    if strategy != "distributed" or query.task == "embed" or "tools" in _needs(query):
        return "never"
    if query.parts:
        return "always"
    chosen = query.split or config.split
    shares = query.domain in ("", AUTO) and not (query.expert or query.peer)
    return "never" if chosen == "auto" and not shares else chosen


def _rules(config: RoutingConfig) -> Rules:
    return Rules(**{name: getattr(config, name) for name in Rules.__struct_fields__})


def in_domain(config: RoutingConfig, domain: str) -> RoutingConfig:
    """The settings as they are in a domain."""
    own = config.domains.get(domain)
    return config if own is None else config.model_copy(update=own.model_dump(exclude_none=True))


def is_open(plan: Plan) -> bool:
    """Whether the domain is a guess that `classified` is to replace."""
    return plan.domain_by in _GUESSED


def classified(plan: Plan, domain: str, by: str, query: Query, config: RoutingConfig, state: RoutingState) -> Plan:
    """The plan with the domain that was found for it, and what is configured for that domain."""
    plan = _in(domain, plan, query, config, state)
    plan = msgspec.structs.replace(plan, domain_by=by, split=_split(query, plan.strategy, config))
    return _with_instead(plan, query, config, state)


def is_guess(plan: Plan) -> bool:
    """Whether nobody named the domain."""
    return plan.domain_by in _GUESSES


def _with_instead(plan: Plan, query: Query, config: RoutingConfig, state: RoutingState) -> Plan:
    """The plan with that for the default domain, under the same terms, where its own domain is another and a guess."""
    if not is_guess(plan) or plan.domain == config.default_domain:
        return plan
    instead = _in(config.default_domain, plan, query, config, state)
    kept = {name: getattr(plan, name) for name in ("chat", "fallback", "part", "timeout_s", "whole")}
    return msgspec.structs.replace(plan, instead=msgspec.structs.replace(instead, domain_by=INSTEAD, **kept))


def _in(domain: str, plan: Plan, query: Query, config: RoutingConfig, state: RoutingState) -> Plan:
    """The plan in a domain that the caller did not choose, with what is configured there."""
    try:
        return make_plan(plan.request, query.model_copy(update={"domain": domain}), config, state)
    except ValueError:  # what the caller chose contradicts what is configured there: the caller comes first
        return msgspec.structs.replace(plan, domain=domain, route_domain=domain)


def _needs(query: Query) -> tuple[str, ...]:
    """The features of experts that can serve the query at all."""
    needs = set(query.needs)
    if query.task == "embed":
        needs.add("embeddings")
    if query.chat is not None and query.chat.get("tools"):
        needs.add("tools")
    if query.chat is not None and shows_something(query.chat):
        needs.add("chat")
    return tuple(sorted(needs))


def _domain_of(query: Query, config: RoutingConfig, state: RoutingState) -> Classified:
    if query.domain not in ("", AUTO):
        return Classified(domain=query.domain, by="caller")
    if query.expert:
        return Classified(domain=_domain_served_by(query.expert, state) or config.default_domain, by="expert")
    if query.task == "embed":
        return Classified(domain=config.default_domain, by="task")
    return classify(query.content, DOMAINS, config.default_domain)


def _domain_served_by(expert: str, state: RoutingState) -> str:
    for peer in sorted(state.offers):
        offer = state.offers[peer].get(expert)
        if offer is not None and offer.domains:
            return offer.domains[0]
    return ""
