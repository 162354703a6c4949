import msgspec
import pytest

from mesh.events.vocabulary.experts import ExpertExpired
from mesh.events.vocabulary.requests import RequestAnswered, RequestAttemptFailed
from mesh.health.records import FORGET_AFTER_S, MAX_EXPERTS_PER_PEER, MAX_PEERS
from mesh.health.sampler import HostSample, NodeLoad, PeerLinkSample, node_sampled, peer_sampled
from mesh.health.state import HealthState
from tests.kit.health_story import PEER, T0, Story, connected, disconnected, node_sample, offered, peer_sample, started


def answered(peer: str, latency_ms: float) -> RequestAnswered:
    return RequestAnswered(
        request="r",
        attempt=1,
        peer=peer,
        expert="e",
        model="",
        latency_ms=latency_ms,
        first_token_ms=-1,
        tokens_in=0,
        tokens_out=0,
        answer_bytes=0,
        answer_digest="",
        signature="",
    )


def failed(peer: str, kind: str) -> RequestAttemptFailed:
    return RequestAttemptFailed(
        request="r", attempt=1, peer=peer, expert="e", kind=kind, message="", retryable=True, latency_ms=1
    )


def test_only_the_last_samples_are_kept():
    story = Story(window=3).given(0, started(), connected())
    for at in range(10):
        story.given(at, node_sample(cpu_percent=at), peer_sample(latency_ms=at))
    assert [sample.cpu_percent for _, sample in story.state.own.samples] == [7, 8, 9]
    assert [sample.latency_ms for _, sample in story.state.peers[PEER].samples] == [7, 8, 9]


def test_outcomes_since_the_last_sample_become_the_next_sample():
    story = Story().given(0, started(), connected(), offered(), offered(expert="b", available=False))
    story.given(1, answered(PEER, 10), answered(PEER, 30), failed(PEER, "failed"))
    story.given(1, failed(PEER, "cancelled"), failed(PEER, "invalid"), answered("unknown", 1))
    link = PeerLinkSample(PEER, latency_ms=1.23456, jitter_ms=-1, loss=0.1, bytes_in=100, bytes_out=300)
    fact = peer_sampled(story.state, link, 10.0, T0 + 10)
    assert (fact.requests, fact.request_latency_ms, fact.success_rate) == (3, 20.0, pytest.approx(2 / 3, abs=1e-6))
    assert (fact.latency_ms, fact.jitter_ms, fact.throughput_bytes_s) == (1.235, -1, 40.0)
    assert (fact.experts_offered, fact.experts_available) == (2, 1)
    story.given(10, fact)
    again = peer_sampled(story.state, link, 10.0, T0 + 20)
    assert (again.requests, again.request_latency_ms, again.success_rate) == (0, -1, -1)


def test_unknown_figures_stay_unknown():
    fact = node_sampled(HostSample(), NodeLoad(), -1.0, 5)
    assert (fact.cpu_percent, fact.rss_bytes, fact.loop_lag_ms, fact.requests_in_flight) == (-1, -1, -1, -1)
    assert fact.journal_backlog == 5


def test_an_expired_offer_comes_back_when_it_is_renewed():
    story = Story().given(0, started(), connected(), offered())
    story.given(1, ExpertExpired(peer=PEER, expert="solver", reason="x"))
    assert story.state.availability(PEER, T0 + 1) == (0, 0)
    story.given(2, offered())
    assert story.state.availability(PEER, T0 + 2) == (1, 1)
    assert story.state.availability(PEER, T0 + 40) == (1, 0)


def test_strangers_cannot_make_it_grow_without_end():
    story = Story().given(0, started(), connected())
    for number in range(MAX_EXPERTS_PER_PEER + 10):
        story.given(1, offered(expert=f"e{number}"), offered("never connected", f"e{number}"))
    assert len(story.state.experts[PEER]) == MAX_EXPERTS_PER_PEER
    assert "never connected" not in story.state.experts
    story.given(2, connected("leaves first")).given(3, disconnected("leaves first"))
    for number in range(MAX_PEERS - 1):
        story.given(4, connected(f"p{number}"))
    assert len(story.state.peers) == MAX_PEERS
    assert "leaves first" not in story.state.peers
    assert PEER in story.state.peers


def test_what_has_been_gone_for_long_is_forgotten_with_its_alerts():
    story = Story().given(0, started(), connected(), offered()).given(100, disconnected())
    story.when(200)
    later = 100 + FORGET_AFTER_S + 1
    story.given(later, node_sample())
    assert story.state.peers == {}
    assert set(story.alerts_when(later)) == {"resolved peer_lost/peer", "resolved domain_uncovered/mathematics"}


def test_a_snapshot_gives_the_same_state_and_goes_on_the_same():
    story = Story().given(0, started(), connected(), offered(), node_sample(disk_percent=95), peer_sample())
    story.given(50, disconnected())
    story.when(120)
    restored = HealthState.restore(story.state.snapshot())
    assert restored == story.state
    assert restored.digest() == story.state.digest()
    before = story.state
    story.given(130, connected(), node_sample())
    live, story.state = before.digest(), restored
    for event in story.events[-2:]:
        restored.apply(event)
    assert restored.digest() == live


def test_a_snapshot_that_is_none_is_refused():
    with pytest.raises(msgspec.ValidationError):
        HealthState.restore(b'{"node": 1}')
