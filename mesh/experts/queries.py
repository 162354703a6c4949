"""What a caller asks, and what a caller gets."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from mesh.config import DOMAIN_PATTERN, ContentPolicy, PolicyName
from mesh.errors import MeshError
from mesh.events.vocabulary.requests import Count, PartEnd, Vote
from mesh.experts.calls import AnswerFormat, FailureKind, Task
from mesh.experts.chat import check_chat, question_of
from mesh.experts.parts import MAX_PARTS

# The domains that ship; a mesh may add its own names, in the same form.
DOMAINS = ("reasoning", "coding", "language", "mathematics", "tool_use", "context")
AUTO = "auto"
EXPERT_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
# They travel in the head of a frame, whose JSON is bounded.
MAX_OPTIONS_BYTES = 8 * 1024
# Between the parts of a query, where they are put together.
_SEPARATOR = "\n\n"

RejectionKind = Literal["invalid", "overloaded", "stopping"]


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not Unicode text: it holds half of a surrogate pair") from None
    return text


def _small(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(msgspec.json.encode(options))
    if size > MAX_OPTIONS_BYTES:
        raise ValueError(f"takes {size} bytes as JSON; the limit is {MAX_OPTIONS_BYTES}")
    return options


def _joined(introduction: object, given: Sequence[object]) -> object:
    """The content of a query with parts, where they are any; what is not is left for the check of its type."""
    texts = [part if isinstance(part, str) else _content(part) for part in given]
    if not all(isinstance(text, str) for text in texts) or not isinstance(introduction, str | None):
        return introduction
    joined, whole = _SEPARATOR.join(map(str, texts)), introduction or ""
    if whole.endswith(joined):
        return whole
    return f"{whole}{_SEPARATOR}{joined}" if whole else joined


def _content(part: object) -> object:
    return part.get("content") if isinstance(part, Mapping) else getattr(part, "content", None)


Text = Annotated[str, AfterValidator(_unicode)]
Feature = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,31}$")]
Options = Annotated[dict[str, JsonValue], AfterValidator(_small)]


class GivenPart(BaseModel):
    """One of several things that are asked at once; ``domain`` ``auto``: that of the request, or else a guess."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: Text = Field(min_length=1)
    domain: str = Field(default=AUTO, pattern=DOMAIN_PATTERN)


class Query(BaseModel):
    """One question. What is empty or 0 is taken from the node's configuration.

    ``domain`` ``auto`` lets the node guess. ``expert`` and ``peer`` admit only that one. ``quorum`` is how many
    equal answers a consensus needs; 0: more than half of ``fan_out``. ``faults`` f, for a consensus, asks ``3f + 1``
    and needs ``2f + 1``. ``agreement`` says when answers are equal: ``exact``, ``normalised``, or ``semantic`` from a
    cosine of ``threshold`` on; ``repeat`` how often each is asked, to find who says two things. ``delivery`` says what
    becomes of streamed text: ``stream`` hands every piece on as it comes, so that a connection lost midway fails the
    request; ``whole`` keeps quiet until there is a complete answer, so that another expert can be tried at any time;
    ``pieces`` hands them on as ``stream`` does and holds them nowhere, so that an answer may be long: the outcome has
    no text, and the digest that tells whether all of it has come.
    ``fallback`` says what may be done when the strategy cannot be followed: ``off``, nothing; ``auto``, less of it, but
    for a consensus; ``on``, that as well, where too few could be asked. ``cache`` ``on``: an answer of before
    to exactly this will do, ``off``: it will not.
    ``chat`` is a conversation (`mesh.experts.chat`) for experts that take one; ``content`` is then its last question,
    unless it is given. ``task`` ``embed`` asks for the vectors of a JSON list of texts. ``needs`` are features without
    which an expert is not asked; tools, ``embed`` and pictures in the last question need theirs anyway.
    ``conversation`` is whatever the caller calls the one that this belongs to: the policy ``sticky`` sends all of it to
    the same expert.
    ``keep`` is what journals may keep of the texts, where that is less than they are configured to; other nodes are
    asked for no more than that, too.
    ``split`` says when `distributed` asks the parts of a text one by one (`mesh.experts.parts`): ``auto``, when they
    are of several domains; ``always``; ``never``. ``parts`` are parts already, texts or `GivenPart`; ``content`` is
    then what introduces them, and ends with them once the query is made. Where there is no ``strategy``, both choose
    `distributed`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: Text = Field(default="", min_length=1)
    chat: dict[str, JsonValue] | None = None
    task: Task = "answer"
    needs: tuple[Feature, ...] = Field(default=(), max_length=8)
    domain: str = Field(default=AUTO, pattern=rf"^$|{DOMAIN_PATTERN}")
    expert: str = Field(default="", pattern=rf"^$|{EXPERT_PATTERN}")
    peer: str = Field(default="", max_length=128, pattern=r"^[A-Za-z0-9]*$")
    strategy: Literal["", "local_only", "best_peer", "distributed", "consensus"] = ""
    policy: Literal["", PolicyName] = ""
    timeout_s: float = Field(default=0.0, ge=0, le=3600, allow_inf_nan=False)
    fan_out: int = Field(default=0, ge=0, le=16)
    quorum: int = Field(default=0, ge=0, le=16)
    faults: int = Field(default=0, ge=0, le=5)
    agreement: Literal["", "exact", "normalised", "semantic"] = ""
    threshold: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    repeat: int = Field(default=0, ge=0, le=3)
    delivery: Literal["stream", "whole", "pieces"] = "stream"
    cache: Literal["", "on", "off"] = ""
    fallback: Literal["", "off", "auto", "on"] = ""
    keep: ContentPolicy | None = None
    split: Literal["", "auto", "always", "never"] = ""
    parts: tuple[GivenPart, ...] = Field(default=(), max_length=MAX_PARTS)
    options: Options = Field(default_factory=dict)
    caller: Text = Field(default="local", max_length=128)
    conversation: Text = Field(default="", max_length=256)

    @model_validator(mode="before")
    @classmethod
    def _asks_something(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        chat, parts = fields.get("chat"), fields.get("parts")
        if isinstance(chat, dict) and not fields.get("content"):
            fields = {**fields, "content": question_of(check_chat(chat))}
            if not fields["content"]:
                raise ValueError("no message of the chat has any text")
        elif isinstance(parts, list | tuple) and parts:
            fields = {**fields, "content": _joined(fields.get("content"), parts)}
        return {"content": "", **fields}

    @field_validator("parts", mode="before")
    @classmethod
    def _may_be_texts(cls, parts: object) -> object:
        if not isinstance(parts, list | tuple):
            return parts
        return [{"content": part} if isinstance(part, str) else part for part in parts]

    @model_validator(mode="after")
    def _parts_stand_alone(self) -> "Query":
        clash = [name for name, given in (("chat", self.chat), ("task", self.task == "embed")) if given]
        if self.parts and clash:
            raise ValueError(f"parts and {clash[0]} exclude each other")
        return self

    @property
    def introduction(self) -> str:
        """What stands before the given parts."""
        return self.content.removesuffix(_SEPARATOR.join(part.content for part in self.parts))

    @field_validator("chat")
    @classmethod
    def _is_a_chat(cls, chat: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        return chat if chat is None else check_chat(chat)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and how it came about. ``peers`` are those whose answer it is, ``expert`` the first one's name.
    ``cached_from`` is the request that it was found for, where that is another.

    ``digest`` is `mesh.experts.answers.digest` of the answer, also of one that went by; ``fallback`` says, when not
    empty, in what way the strategy could not be followed as asked; ``failures`` name ``peer/expert: kind`` of what gave
    nothing.
    ``format`` and ``finish_reason`` are as in `mesh.experts.calls.Answer`; ``count`` is how votes were counted, where
    there were any; ``parts`` what became of each, where the request was split.
    """

    request: str
    text: str
    digest: str
    domain: str
    strategy: str
    policy: str
    peers: tuple[str, ...]
    expert: str
    model: str
    latency_ms: float
    attempts: int
    agreement: float
    tokens_in: int = -1
    tokens_out: int = -1
    format: AnswerFormat = "text"
    finish_reason: str = ""
    votes: tuple[Vote, ...] = ()
    failures: tuple[str, ...] = ()
    fallback: str = ""
    cached_from: str = ""
    count: Count | None = None
    parts: tuple[PartEnd, ...] = ()


class QueryRejected(MeshError):
    """The request was not taken up: ``kind`` is ``invalid``, ``overloaded`` or ``stopping``."""

    def __init__(self, kind: RejectionKind, message: str, *, request: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind
        self.message = message
        self.request = request


class QueryFailed(MeshError):
    """The request was taken up and has no answer.

    ``kind`` is that of the attempt that decided it (`mesh.experts.calls.FailureKind`), or ``no_candidates``,
    ``lacks_feature``, ``no_quorum``, ``broken_stream``, ``too_large``. ``partial`` is what a broken stream had
    delivered, ``retry_after_s`` when it may be worth to ask again; 0: not known.
    """

    def __init__(
        self,
        kind: "FailureKind | Literal['no_candidates', 'lacks_feature', 'no_quorum', 'broken_stream', 'too_large']",
        message: str,
        *,
        request: str = "",
        failures: tuple[str, ...] = (),
        votes: tuple[Vote, ...] = (),
        partial: str = "",
        retry_after_s: float = 0.0,
        count: Count | None = None,
        parts: tuple[PartEnd, ...] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.request = request
        self.failures = failures
        self.votes = votes
        self.partial = partial
        self.retry_after_s = retry_after_s
        self.count = count
        self.parts = parts

    def reword(self, message: str) -> None:
        """Say it so."""
        self.message = self.what = message
        self.args = (message,)


def parse_query(fields: Mapping[str, Any]) -> Query:
    """A validated Query; raises ValueError that names each field, its value and what is allowed."""
    try:
        return Query.model_validate(dict(fields))
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in problem['loc'])} = {_value(problem)}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise ValueError("; ".join(problems)) from None


def _value(problem: Mapping[str, Any]) -> str:
    """The value that is wrong; of what was asked its kind alone, for this goes into the journal."""
    value = problem["input"]
    if value and (not problem["loc"] or problem["loc"][0] in ("content", "chat", "parts")):
        return f"({type(value).__name__})"
    return _shown(value)


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
