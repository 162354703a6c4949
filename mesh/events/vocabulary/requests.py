"""The life of a request. Their envelope's subject and correlation are both the request's id.

received → classified → (split →) routed → dispatched → answered | attempt_failed → completed | failed | cancelled |
interrupted; bad input leaves only rejected. The serving node leaves served.

Of a request that was split, ``part`` says for which part a fact is, from 1; 0: for all of it. Experts know part n of a
request by the id ``request.n``, and sign that.
"""

from typing import ClassVar

import msgspec

from mesh.events.envelope import Fact


class RequestReceived(Fact, frozen=True, kw_only=True):
    """A caller asked. ``kept`` is the policy that held: ``content`` has the text under ``full``, ``sealed`` its
    ciphertext under ``sealed`` (`mesh.experts.content.seal`, part ``content``), and both are empty under ``digest``
    and for texts that are too long to keep. Under ``sealed`` the digest is keyed (`mesh.experts.content.keyed_digest`).
    ``domain`` is ``auto`` where `RequestClassified` settles it.
    """

    type: ClassVar[str] = "request.received"
    request: str
    caller: str
    domain: str
    strategy: str
    policy: str
    fan_out: int
    timeout_ms: int
    content_digest: str
    content_bytes: int
    content: str = ""
    kept: str = ""
    sealed: str = ""


class RequestRejected(Fact, frozen=True, kw_only=True):
    """The request was not taken up: ``kind`` says why (bad input, admission), nothing was dispatched."""

    type: ClassVar[str] = "request.rejected"
    request: str
    caller: str
    kind: str
    message: str


class RequestClassified(Fact, frozen=True, kw_only=True):
    """The caller left the domain open, and this node chose it.

    ``by`` is ``embedding``, ``keywords`` or ``default``; ``scores`` is what each domain was worth by that measure (the
    highest wins; none reached what is needed where ``by`` is ``default``); ``note`` says why it was not the embedding.
    """

    type: ClassVar[str] = "request.classified"
    request: str
    domain: str
    by: str
    scores: dict[str, float]
    took_ms: float
    note: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what was asked: ``chars`` characters of the content from ``start`` on, and its domain.

    ``by`` and ``scores`` are as in `RequestClassified`; ``by`` is ``caller`` too, or ``request``: it is the domain of
    the whole, for the reason in ``note``.
    """

    start: int
    chars: int
    domain: str
    by: str
    scores: dict[str, float] = {}
    note: str = ""


class RequestSplit(Fact, frozen=True, kw_only=True):
    """What was asked has several parts, and each goes to an expert of its own; or to none, for the reason in ``whole``.

    ``by`` is how they were told apart: ``numbers``, ``questions`` (`mesh.experts.parts`), or ``caller``. What stands
    before the first is an introduction to all of them.
    """

    type: ClassVar[str] = "request.split"
    request: str
    by: str
    parts: tuple[Part, ...]
    took_ms: float
    whole: str = ""


class RequestRouted(Fact, frozen=True, kw_only=True):
    """One routing decision with all that it saw.

    ``inputs`` and ``decision`` are the exact JSON of the pure decision's arguments and result
    (`mesh.experts.routing`): folding the journal up to ``as_of`` and deciding again must give the same bytes.
    """

    type: ClassVar[str] = "request.routed"
    request: str
    attempt: int
    policy: str
    policy_version: int
    as_of: int
    inputs: msgspec.Raw
    decision: msgspec.Raw
    part: int = 0


class RequestDispatched(Fact, frozen=True, kw_only=True):
    """The request was sent to an expert. ``attempt`` counts from 1 over the whole request.

    ``purpose`` is ``first``, ``probe`` (the first, of an expert that was ejected), ``retry`` (after a failure),
    ``hedge`` (beside one that is late) or ``moved`` (the one that was asked did no work).
    """

    type: ClassVar[str] = "request.dispatched"
    request: str
    attempt: int
    peer: str
    expert: str
    timeout_ms: int
    purpose: str = "first"
    part: int = 0


class RequestHedged(Fact, frozen=True, kw_only=True):
    """``attempt`` is late, and another expert is asked beside it: the first answer counts, the other is taken back.

    ``after_ms`` is how long it had, ``p95_ms`` what nearly all answers took lately with the experts that were to choose
    from.
    """

    type: ClassVar[str] = "request.hedged"
    request: str
    attempt: int
    peer: str
    expert: str
    by_peer: str
    by_expert: str
    after_ms: float
    p95_ms: float


class RequestFellBack(Fact, frozen=True, kw_only=True):
    """The strategy could not be followed, and something less is tried: ``to`` is ``best_peer`` or ``local``.

    Or the domain was guessed and nobody there could be asked, or took it: then ``to`` is ``default_domain``, and
    ``domain`` is that one.
    """

    type: ClassVar[str] = "request.fell_back"
    request: str
    strategy: str
    to: str
    reason: str
    part: int = 0
    domain: str = ""


class RequestAnswered(Fact, frozen=True, kw_only=True):
    """An expert answered. ``signature`` (hex) is the serving peer's, over `mesh.experts.answers.signed_bytes`."""

    type: ClassVar[str] = "request.answered"
    request: str
    attempt: int
    peer: str
    expert: str
    model: str
    latency_ms: float
    first_token_ms: float
    tokens_in: int
    tokens_out: int
    answer_bytes: int
    answer_digest: str
    signature: str
    part: int = 0


class RequestAttemptFailed(Fact, frozen=True, kw_only=True):
    """One attempt gave no answer; ``retryable`` says whether another expert may be asked."""

    type: ClassVar[str] = "request.attempt_failed"
    request: str
    attempt: int
    peer: str
    expert: str
    kind: str
    message: str
    retryable: bool
    latency_ms: float


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One signed answer in a consensus: ``group`` is the digest of the normalised answer it counts for.

    ``weight`` is what the recorded reliability of its expert made of it, as in the routing decision; ``similarity`` the
    cosine to the first answer of its group (1.0 unless answers were compared by meaning).
    """

    peer: str
    expert: str
    answer_digest: str
    group: str
    agrees: bool
    weight: float = 1.0
    similarity: float = 1.0


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How the votes of a consensus were counted.

    ``agreement`` is ``exact``, ``normalised`` or ``semantic``, the last with the ``threshold`` of its cosine (else 0).
    ``support`` votes of ``quorum`` needed were for the outcome, with ``weight`` against ``against``. ``laggards`` had
    not answered when the outcome was certain and were cancelled; ``equivocated`` signed two different answers, and have
    no vote. ``note`` says what could not be done as asked.
    """

    agreement: str
    threshold: float
    faults: int
    asked: int
    quorum: int
    support: int
    weight: float
    against: float
    laggards: tuple[str, ...] = ()
    equivocated: tuple[str, ...] = ()
    note: str = ""


class PartEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a part: whose answer it has; or ``error``, the kind of failure, and ``message``."""

    part: int
    domain: str
    peer: str = ""
    expert: str = ""
    error: str = ""
    message: str = ""


class RequestCompleted(Fact, frozen=True, kw_only=True):
    """The caller gets an answer. ``votes`` is empty unless the strategy compared several answers.

    ``agreement`` is the share of votes for the outcome (1.0 where there was only one answer); ``failures`` names
    ``peer/expert: kind`` of every attempt that gave nothing. ``parts``, of a request that was split, are in the order
    in which they were asked. ``cached_from`` is the request for which the answer was found, where it was not this one:
    then nobody was asked, and the votes are there. ``answer`` and ``sealed`` (part ``answer``) are as ``content`` and
    ``sealed`` in `RequestReceived`.
    """

    type: ClassVar[str] = "request.completed"
    request: str
    strategy: str
    attempts: int
    latency_ms: float
    answer_digest: str
    answer_bytes: int
    winners: tuple[str, ...]
    agreement: float
    votes: tuple[Vote, ...] = ()
    failures: tuple[str, ...] = ()
    fallback: str = ""
    answer: str = ""
    count: Count | None = None
    cached_from: str = ""
    sealed: str = ""
    parts: tuple[PartEnd, ...] = ()


class RequestFailed(Fact, frozen=True, kw_only=True):
    """No answer could be had; the caller gets ``kind`` and ``message``.

    ``votes``, ``failures`` and ``parts`` are as in `RequestCompleted`: what a consensus without a quorum counted, and
    what failed.
    """

    type: ClassVar[str] = "request.failed"
    request: str
    kind: str
    message: str
    attempts: int
    latency_ms: float
    votes: tuple[Vote, ...] = ()
    failures: tuple[str, ...] = ()
    count: Count | None = None
    parts: tuple[PartEnd, ...] = ()


class RequestDissented(Fact, frozen=True, kw_only=True):
    """An expert signed another answer than the one that a consensus came to.

    ``signature`` (hex) over request, expert, ``model`` and ``answer_digest`` proves that it is the expert's; ``group``
    is what the answer counted for, ``outcome`` what the others agreed on.
    """

    type: ClassVar[str] = "request.dissented"
    request: str
    peer: str
    expert: str
    model: str
    answer_digest: str
    signature: str
    group: str
    outcome: str


class RequestCanaryChecked(Fact, frozen=True, kw_only=True):
    """An expert was asked a question whose answer is known, as if a caller had asked; ``request`` is its trail.

    ``outcome`` is ``passed``, ``failed`` (another answer), ``equivocated`` (two answers) or ``unanswered``, which says
    nothing of its honesty. ``expected`` and ``group`` are the digests of what was expected and of what was said.
    ``draw`` is the seed from which the question and the expert were drawn.
    """

    type: ClassVar[str] = "request.canary_checked"
    request: str
    canary: str
    domain: str
    peer: str
    expert: str
    outcome: str
    expected: str
    group: str
    latency_ms: float
    draw: int


class RequestCancelled(Fact, frozen=True, kw_only=True):
    """The caller went away or took the request back."""

    type: ClassVar[str] = "request.cancelled"
    request: str
    reason: str
    latency_ms: float


class RequestInterrupted(Fact, frozen=True, kw_only=True):
    """The node died while the request was in flight; recorded at the next start."""

    type: ClassVar[str] = "request.interrupted"
    request: str
    last_position: int


class RequestServed(Fact, frozen=True, kw_only=True):
    """This node's expert worked for ``caller`` (a PeerId, this node's own included).

    ``outcome`` is ``answered``, ``failed``, ``cancelled``, ``overloaded`` or ``expired``. ``kept``, ``content`` and
    ``answer`` are what is kept of another node's request; ``sealed`` (part ``served``) is a JSON list of the two.
    """

    type: ClassVar[str] = "request.served"
    request: str
    caller: str
    expert: str
    outcome: str
    error: str
    queued_ms: float
    latency_ms: float
    tokens_in: int
    tokens_out: int
    answer_bytes: int
    answer_digest: str
    kept: str = ""
    content: str = ""
    answer: str = ""
    sealed: str = ""


class RequestForgotten(Fact, frozen=True, kw_only=True):
    """The keys of what was sealed of a request are erased: nobody can read it any more.

    ``reason`` is ``told`` (``actor`` did) or ``retention`` (`content.retain_days`).
    """

    type: ClassVar[str] = "request.forgotten"
    request: str
    actor: str
    reason: str


FACTS = (
    RequestReceived,
    RequestRejected,
    RequestClassified,
    RequestSplit,
    RequestRouted,
    RequestDispatched,
    RequestHedged,
    RequestFellBack,
    RequestAnswered,
    RequestAttemptFailed,
    RequestCompleted,
    RequestFailed,
    RequestDissented,
    RequestCanaryChecked,
    RequestCancelled,
    RequestInterrupted,
    RequestServed,
    RequestForgotten,
)
