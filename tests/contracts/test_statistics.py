"""The figures of `mesh stats`, counted from a small history that is easy to count by hand."""

from collections.abc import Iterator

import pytest

from mesh.events.envelope import Fact
from mesh.events.vocabulary.experts import ExpertRegistered
from mesh.events.vocabulary.node import NodeStarted
from mesh.events.vocabulary.requests import (
    RequestAnswered,
    RequestAttemptFailed,
    RequestCompleted,
    RequestDispatched,
    RequestFailed,
    RequestReceived,
    RequestRejected,
)
from mesh.projections.queries import Queries
from tests.kit.records import OWNER, chain_of
from tests.kit.tables import projected


def received(request: str, domain: str = "mathematics") -> RequestReceived:
    return RequestReceived(
        request=request,
        caller="c",
        domain=domain,
        strategy="best_peer",
        policy="weighted",
        fan_out=1,
        timeout_ms=1000,
        content_digest="",
        content_bytes=1,
    )


def completed(request: str, latency_ms: float, *, cached_from: str = "", fallback: str = "") -> RequestCompleted:
    return RequestCompleted(
        request=request,
        strategy="best_peer",
        attempts=0 if cached_from else 1,
        latency_ms=latency_ms,
        answer_digest="",
        answer_bytes=1,
        winners=("p/solver",),
        agreement=1.0,
        fallback=fallback,
        cached_from=cached_from,
    )


def asked(request: str, latency_ms: float, tokens: int = -1) -> Iterator[Fact]:
    yield received(request)
    yield RequestDispatched(request=request, attempt=1, peer="p", expert="solver", timeout_ms=1000)
    yield RequestAnswered(
        request=request,
        attempt=1,
        peer="p",
        expert="solver",
        model="m",
        latency_ms=latency_ms,
        first_token_ms=-1,
        tokens_in=-1,
        tokens_out=tokens,
        answer_bytes=1,
        answer_digest="",
        signature="",
    )
    yield completed(request, latency_ms + 1, fallback="local: after 1 failed" if latency_ms == 100 else "")


def history() -> Iterator[Fact]:
    yield NodeStarted(epoch=1, name="n", release="0", resumed_from=0, clean=True)
    for expert, domains in (("solver", ("mathematics",)), ("words", ("language", "mathematics"))):
        yield ExpertRegistered(
            expert=expert, backend="python", model="m", domains=domains, concurrency=4, queue_limit=8, quality=0.7
        )
    for number in range(1, 101):
        yield from asked(f"r{number}", float(number), tokens=10 if number <= 10 else -1)
    yield received("cached")
    yield completed("cached", 0.1, cached_from="r1")
    yield received("bad", "language")
    yield RequestDispatched(request="bad", attempt=1, peer="p", expert="words", timeout_ms=1000)
    yield RequestAttemptFailed(
        request="bad", attempt=1, peer="p", expert="words", kind="failed", message="", retryable=True, latency_ms=5
    )
    yield RequestFailed(request="bad", kind="failed", message="", attempts=1, latency_ms=6)
    yield RequestRejected(request="no", caller="c", kind="invalid", message="")
    yield received("running")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{projected(tmp_path_factory.mktemp('tables'), chain_of(*history()))}"


async def test_the_figures_are_what_one_counts_by_hand(url: str) -> None:
    async with Queries(url, node=OWNER) as tables:
        found = await tables.statistics("")
    total = found["total"]
    assert (total["requests"], total["completed"], total["failed"]) == (104, 101, 1)
    assert (total["rejected"], total["in_flight"], total["cache_hits"], total["fallbacks"]) == (1, 1, 1, 1)
    assert (total["p50_ms"], total["p95_ms"], total["p99_ms"]) == (51, 96, 100)
    language, mathematics = found["domains"]
    assert (language["domain"], language["experts"], language["failed"], language["p50_ms"]) == ("language", 1, 1, None)
    assert (mathematics["experts"], mathematics["peers"], mathematics["slots"], mathematics["load"]) == (2, 1, 8, 0)
    assert (mathematics["requests"], mathematics["cache_hits"], mathematics["p50_ms"]) == (102, 1, 51)
    solver, words = found["experts"]
    assert (solver["asked"], solver["answered"], solver["failed"], solver["p95_ms"]) == (100, 100, 0, 95)
    assert solver["tokens_per_s"] == pytest.approx(1000 * 100 / 55)
    assert (words["asked"], words["answered"], words["failed"], words["tokens_per_s"]) == (1, 0, 1, None)


async def test_a_hit_names_its_original(url: str) -> None:
    async with Queries(url, node=OWNER) as tables:
        hit, asked = await tables.request("cached"), await tables.request("r1")
    assert hit is not None
    assert asked is not None
    assert (hit["cached_from"], hit["attempts"], asked["cached_from"]) == ("r1", 0, None)


async def test_what_was_before_does_not_count(url: str) -> None:
    async with Queries(url, node=OWNER) as tables:
        found = await tables.statistics("9999")
    assert found["total"]["requests"] == 0
    assert found["experts"] == []
    assert [domain["requests"] for domain in found["domains"]] == [0, 0]


async def test_an_own_expert_is_shown_with_its_load_and_quality(url: str) -> None:
    async with Queries(url, node=OWNER) as tables:
        experts = await tables.experts()
    assert {(e["expert"], e["in_flight"], e["queued"], e["quality"]) for e in experts} == {
        ("solver", 0, 0, 0.7),
        ("words", 0, 0, 0.7),
    }
