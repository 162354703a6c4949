"""Given these facts of requests, then these rows."""

import msgspec
import pytest

from mesh.events.vocabulary.node import NodeStarted
from mesh.events.vocabulary.requests import (
    PartEnd,
    RequestAnswered,
    RequestAttemptFailed,
    RequestCancelled,
    RequestCompleted,
    RequestDispatched,
    RequestFailed,
    RequestFellBack,
    RequestInterrupted,
    RequestReceived,
    RequestRejected,
    RequestRouted,
    RequestServed,
    Vote,
)
from mesh.projections.folds.attempts import ATTEMPTS
from mesh.projections.folds.decisions import DECISIONS
from mesh.projections.folds.peer_load import PEER_LOAD
from mesh.projections.folds.requests import REQUESTS
from mesh.projections.folds.served import SERVED
from tests.kit.tables import NODE, event, folded, only_row

ID = "r-1"
RECEIVED = RequestReceived(
    request=ID,
    caller="cli",
    domain="coding",
    strategy="best_peer",
    policy="weighted",
    fan_out=1,
    timeout_ms=60_000,
    content_digest="sha256:aa",
    content_bytes=12,
)
STARTED = NodeStarted(epoch=2, name="n", release="1", resumed_from=9, clean=False)


def routed(attempt: int = 1, decision: bytes = b'{"chosen":[{"peer":"p","expert":"e"}]}') -> RequestRouted:
    raw = msgspec.Raw(decision)
    return RequestRouted(
        request=ID,
        attempt=attempt,
        policy="weighted",
        policy_version=1,
        as_of=7,
        inputs=msgspec.Raw(b'{"k": 1}'),
        decision=raw,
    )


def dispatched(attempt: int = 1, peer: str = "p") -> RequestDispatched:
    return RequestDispatched(request=ID, attempt=attempt, peer=peer, expert="e", timeout_ms=900)


def answered(attempt: int = 1, peer: str = "p", latency_ms: float = 100.0, tokens: int = 5) -> RequestAnswered:
    return RequestAnswered(
        request=ID,
        attempt=attempt,
        peer=peer,
        expert="e",
        model="m",
        latency_ms=latency_ms,
        first_token_ms=-1.0,
        tokens_in=-1,
        tokens_out=tokens,
        answer_bytes=3,
        answer_digest="sha256:bb",
        signature="ff",
    )


def failed(attempt: int = 1, peer: str = "p", kind: str = "disconnected") -> RequestAttemptFailed:
    return RequestAttemptFailed(
        request=ID, attempt=attempt, peer=peer, expert="e", kind=kind, message="gone", retryable=True, latency_ms=40.0
    )


def completed(**more: object) -> RequestCompleted:
    fields = {"strategy": "best_peer", "attempts": 2, "latency_ms": 150.0, "answer_digest": "sha256:bb"}
    return RequestCompleted(request=ID, **{**fields, "answer_bytes": 3, "winners": ("q/e",), "agreement": 1.0, **more})


def test_an_attempt_says_what_for_it_was_made_and_of_which_part() -> None:
    hedge = msgspec.structs.replace(dispatched(2, "q"), purpose="hedge", part=3)
    rows = folded(ATTEMPTS, dispatched(), answered(), hedge)
    assert [(row.purpose, row.part) for row in rows.values()] == [("first", None), ("hedge", 3)]


def test_the_parts_of_a_request_are_in_its_row() -> None:
    ends = (
        PartEnd(part=1, domain="coding", peer="p", expert="e"),
        PartEnd(part=2, domain="x", error="no_candidates", message="nobody"),
    )
    whole = only_row(REQUESTS, RECEIVED, completed())
    row = only_row(REQUESTS, RECEIVED, msgspec.structs.replace(completed(), parts=ends))
    assert whole.parts is None
    assert [end["error"] for end in msgspec.json.decode(row.parts)] == ["", "no_candidates"]
    fact = RequestFailed(request=ID, kind="failed", message="", attempts=1, latency_ms=1.0, parts=ends[1:])
    assert msgspec.json.decode(only_row(REQUESTS, RECEIVED, fact).parts)[0]["part"] == 2


def test_a_request_is_of_the_domain_that_it_went_on_to_and_a_part_alone_is_not_the_request() -> None:
    on = RequestFellBack(request=ID, strategy="s", to="default_domain", reason="r", domain="language")
    assert only_row(REQUESTS, RECEIVED, on).domain == "language"
    assert only_row(REQUESTS, RECEIVED, msgspec.structs.replace(on, part=1)).domain == "coding"
    less = RequestFellBack(request=ID, strategy="s", to="local", reason="r")
    assert only_row(REQUESTS, RECEIVED, less) == only_row(REQUESTS, RECEIVED)


def test_a_request_that_fails_over_and_completes() -> None:
    row = only_row(
        REQUESTS,
        RECEIVED,
        routed(),
        dispatched(),
        failed(),
        routed(2),
        dispatched(2, "q"),
        answered(2, "q"),
        completed(),
    )
    assert (row.state, row.peer, row.expert) == ("completed", "q", "e")
    assert (row.decisions, row.attempts, row.attempts_failed) == (2, 2, 1)
    assert (row.received_at, row.finished_at) == ("2026-11-22T10:00:01.000000Z", "2026-11-22T10:00:08.000000Z")
    assert (row.latency_ms, row.tokens_out, row.tokens_in, row.first_token_ms) == (150.0, 5, 0, None)
    assert (row.first_position, row.last_position) == (1, 8)
    assert row.error_kind is None
    assert row.content is None


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ([RECEIVED], "received"),
        ([RECEIVED, routed()], "routed"),
        ([RECEIVED, routed(), dispatched()], "dispatched"),
        ([RECEIVED, routed(), dispatched(), answered()], "answered"),
        ([RECEIVED, routed(), dispatched(), failed()], "dispatched"),
        ([RECEIVED, routed(), dispatched(), completed(), answered()], "completed"),
        ([RECEIVED, RequestCancelled(request=ID, reason="gone", latency_ms=1.0)], "cancelled"),
        ([RECEIVED, RequestInterrupted(request=ID, last_position=1)], "interrupted"),
        ([RequestRejected(request=ID, caller="cli", kind="overloaded", message="full")], "rejected"),
    ],
)
def test_states(facts: list, state: str) -> None:
    row = only_row(REQUESTS, *facts)
    assert row.state == state
    assert (row.finished_at is not None) == (state in {"completed", "cancelled", "interrupted", "rejected"})


def test_a_failure_keeps_its_kind_its_message_and_what_was_counted() -> None:
    vote = Vote(peer="p", expert="e", answer_digest="d", group="g", agrees=False)
    end = RequestFailed(
        request=ID,
        kind="no_quorum",
        message="2 of 3",
        attempts=3,
        latency_ms=9.0,
        votes=(vote,),
        failures=("p/e: failed",),
    )
    row = only_row(REQUESTS, RECEIVED, end)
    assert (row.state, row.error_kind, row.error_message, row.latency_ms) == ("failed", "no_quorum", "2 of 3", 9.0)
    assert (row.votes, row.failures) == ((vote,), ("p/e: failed",))


def test_a_request_whose_beginning_is_missing_is_still_a_row() -> None:
    row = only_row(REQUESTS, answered(), completed(winners=()))
    assert (row.request, row.node, row.state, row.received_at, row.peer) == (ID, NODE, "completed", None, None)


def test_the_same_id_at_another_node_is_another_request() -> None:
    rows = folded(REQUESTS, event(RECEIVED, 1), event(RECEIVED, 2, origin="other"), event(routed(), 3, origin="other"))
    assert {key: row.state for key, row in rows.items()} == {(ID, NODE): "received", (ID, "other"): "routed"}


def test_attempts_end_answered_or_failed() -> None:
    rows = folded(ATTEMPTS, dispatched(), failed(), dispatched(2, "q"), answered(2, "q"))
    first, second = rows[ID, 1, NODE], rows[ID, 2, NODE]
    assert (first.state, first.error_kind, first.retryable, first.latency_ms) == ("failed", "disconnected", True, 40.0)
    assert (second.state, second.peer, second.latency_ms, second.tokens_in) == ("answered", "q", 100.0, None)
    assert second.dispatched_at < second.finished_at


def test_a_start_of_the_node_ends_the_attempts_that_it_left() -> None:
    rows = folded(ATTEMPTS, dispatched(), answered(), dispatched(2), event(dispatched(3), 4, origin="other"), STARTED)
    states = {key[1]: row.state for key, row in rows.items()}
    assert states == {1: "answered", 2: "interrupted", 3: "dispatched"}
    assert rows[ID, 2, NODE].finished_at is not None


def test_a_decision_is_kept_to_the_byte() -> None:
    decision = b'{ "chosen" : [{"peer":"p"}],\n"ranking":[1.10]}'
    row = only_row(DECISIONS, routed(decision=decision))
    assert row.decision.encode() == decision
    assert row.inputs == '{"k": 1}'
    assert (row.chosen, row.as_of, row.position) == ('[{"peer":"p"}]', 7, 1)


@pytest.mark.parametrize("decision", [b"[]", b"{}", b"null", b'"p"'])
def test_a_decision_of_another_shape_has_nothing_chosen(decision: bytes) -> None:
    assert only_row(DECISIONS, routed(decision=decision)).chosen is None


def test_peer_load_counts_and_averages() -> None:
    facts = [dispatched(1), dispatched(2), answered(1, latency_ms=100.0), answered(2, latency_ms=200.0), dispatched(3)]
    row = only_row(PEER_LOAD, *facts, failed(3))
    assert (row.in_flight, row.dispatched, row.answered, row.failed) == (0, 3, 2, 1)
    assert row.success_rate == pytest.approx(2 / 3)
    assert row.ewma_latency_ms == pytest.approx(100 + 0.2 * 100)
    assert row.recent_success_rate == pytest.approx(0.8)
    assert (row.max_latency_ms, row.failures_in_a_row, row.last_error_kind) == (200.0, 1, "disconnected")


def test_what_the_caller_takes_back_is_not_held_against_the_expert() -> None:
    row = only_row(PEER_LOAD, dispatched(1), answered(1), dispatched(2), failed(2, kind="cancelled"))
    assert (row.cancelled, row.failed, row.in_flight, row.success_rate, row.failures_in_a_row) == (1, 0, 0, 1.0, 0)


def test_nothing_is_in_flight_after_a_start_of_the_node() -> None:
    row = only_row(PEER_LOAD, dispatched(1), dispatched(2), answered(1), STARTED)
    assert (row.in_flight, row.interrupted, row.last_position) == (0, 1, 4)
    idle = only_row(PEER_LOAD, dispatched(1), answered(1), STARTED)
    assert idle.last_position == 2


def test_served_requests_are_a_row_each_even_with_one_id() -> None:
    served = RequestServed(
        request=ID,
        caller="q",
        expert="e",
        outcome="failed",
        error="no model",
        queued_ms=-1.0,
        latency_ms=5.0,
        tokens_in=-1,
        tokens_out=2,
        answer_bytes=-1,
        answer_digest="",
    )
    rows = folded(SERVED, served, served)
    assert list(rows) == [(1,), (2,)]
    row = rows[1,]
    assert (row.error, row.queued_ms, row.latency_ms, row.tokens_in, row.answer_digest) == (
        "no model",
        None,
        5.0,
        None,
        None,
    )
