"""What health promises whatever comes: worse is never better, noise changes nothing, and it is decided once."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mesh.events.vocabulary.alerts import AlertPending, AlertRaised, AlertResolved
from mesh.events.vocabulary.network import PeerConfirmedDown, PeerRejoined
from mesh.health.score import node_factors, peer_factors, score
from mesh.health.state import HealthState
from mesh.health.status import FLOORS, MARGIN, STATUSES, settle, status_of
from mesh.health.trend import MIN_POINTS, trend
from tests.kit.health_story import (
    Story,
    connected,
    disconnected,
    node_sample,
    offered,
    peer_sample,
    started,
    statuses,
)

NODE_RANGES = {
    "cpu_percent": (0, 100),
    "memory_percent": (0, 100),
    "disk_percent": (0, 100),
    "open_files_percent": (0, 100),
    "loop_lag_ms": (0, 5000),
    "journal_backlog": (0, 500_000),
}
PEER_RANGES = {"latency_ms": (0, 10_000), "jitter_ms": (0, 5000), "loss": (0, 1), "success_rate": (0, 1)}
HIGHER_IS_BETTER = {"success_rate"}


def values(ranges):
    return st.fixed_dictionaries({name: st.floats(low, high) for name, (low, high) in ranges.items()})


@given(values(NODE_RANGES), st.sampled_from(sorted(NODE_RANGES)), st.floats(0, 1))
def test_a_worse_node_never_scores_better(sample, metric, how_much):
    top = NODE_RANGES[metric][1]
    worse = {**sample, metric: sample[metric] + (top - sample[metric]) * how_much}
    assert score(node_factors(node_sample(**worse))) <= score(node_factors(node_sample(**sample)))


@given(values(PEER_RANGES), st.sampled_from(sorted(PEER_RANGES)), st.floats(0, 1))
def test_a_worse_peer_never_scores_better(sample, metric, how_much):
    worst = 0 if metric in HIGHER_IS_BETTER else PEER_RANGES[metric][1]
    worse = {**sample, metric: sample[metric] + (worst - sample[metric]) * how_much}
    better_score = score(peer_factors(peer_sample(requests=10, **sample)))
    assert score(peer_factors(peer_sample(requests=10, **worse))) <= better_score


@given(st.integers(1, 20), st.data())
def test_fewer_available_experts_never_score_better(offered_experts, data):
    few = data.draw(st.integers(0, offered_experts))
    more = data.draw(st.integers(few, offered_experts))
    scores = [
        score(peer_factors(peer_sample(experts_offered=offered_experts, experts_available=available)))
        for available in (few, more)
    ]
    assert scores[0] <= scores[1]


@given(st.sampled_from(STATUSES[:-1]), st.lists(st.floats(-MARGIN, MARGIN), min_size=1, max_size=60))
def test_noise_within_the_margin_of_a_threshold_never_flaps(status, noise):
    scores = [min(1.0, FLOORS[status] + (1 - 1e-9) * delta) for delta in noise]
    current, changes = "", 0
    for end in range(1, len(scores) + 1):
        settled = settle(scores[max(0, end - 3) : end], current) if current else settle(scores[:1], "")
        changes += settled != current
        current = settled
    assert changes == 1  # the first decision, and none after it


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.sampled_from([*STATUSES, ""]))
def test_settling_again_changes_nothing(scores, current):
    settled = settle(scores, current)
    assert settle(scores, settled) == settled


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.sampled_from(STATUSES))
def test_the_status_ends_between_what_it_was_and_what_the_samples_say(scores, current):
    ranks = [STATUSES.index(status) for status in (current, *map(status_of, scores))]
    assert min(ranks) <= STATUSES.index(settle(scores, current)) <= max(ranks)


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e6, 1e6)), min_size=MIN_POINTS, max_size=40),
    st.floats(-1e3, 1e3),
    st.randoms(use_true_random=False),
)
def test_a_trend_needs_no_order_and_moves_with_a_line_that_is_added(points, slope, shuffle):
    found = trend(points)
    assume(found is not None)
    shuffled = list(points)
    shuffle.shuffle(shuffled)
    assert trend(shuffled) == found
    assert found.low <= found.slope <= found.high
    tilted = trend([(x, y + slope * x) for x, y in points])
    assert abs(tilted.slope - (found.slope + slope)) <= 1e-6 * (1 + abs(found.slope) + abs(slope)) * 10_000


PEERS = st.sampled_from(["a", "b", "c"])
FACTS = st.one_of(
    PEERS.map(connected),
    PEERS.map(disconnected),
    st.builds(PeerConfirmedDown, peer=PEERS, reason=st.just("silent"), silent_s=st.floats(0, 20)),
    st.builds(PeerRejoined, peer=PEERS, away_s=st.floats(0, 20)),
    st.builds(
        offered, PEERS, st.sampled_from(["x", "y"]), available=st.booleans(), valid_s=st.sampled_from([5.0, 30.0])
    ),
    st.builds(lambda peer, latency: peer_sample(peer, latency_ms=latency), PEERS, st.floats(-1, 1000)),
    st.builds(lambda disk: node_sample(disk_percent=disk), st.sampled_from([-1.0, 50.0, 88.0, 95.0])),
    st.integers(1, 9).map(started),
)
HISTORIES = st.lists(st.tuples(st.floats(0, 60), st.lists(FACTS, max_size=4)), max_size=25)


def lived(history) -> Story:
    """`Story.when` checks at each step that deciding again gives nothing."""
    story, at = Story().given(0, started()), 0.0
    for pause, facts in history:
        at += pause
        story.given(at, *facts)
        story.when(at)
    return story


@settings(deadline=None)
@given(HISTORIES)
def test_deciding_again_gives_nothing_and_the_journal_gives_the_state_back(history):
    story = lived(history)
    assert story.replayed().digest() == story.state.digest()
    assert HealthState.restore(story.state.snapshot()) == story.state


@settings(deadline=None)
@given(HISTORIES)
def test_every_alert_goes_through_its_life_in_order(history):
    phase: dict[str, str] = {}
    for event in lived(history).events:
        match event.fact:
            case AlertPending(alert=alert):
                assert alert not in phase
                phase[alert] = "pending"
            case AlertRaised(alert=alert):
                assert phase[alert] == "pending"
                phase[alert] = "raised"
            case AlertResolved(alert=alert):
                assert phase.pop(alert) in {"pending", "raised"}


@settings(deadline=None)
@given(HISTORIES)
def test_no_status_changes_to_itself(history):
    for event in lived(history).events:
        for change in statuses([event.fact]):
            previous, status = change.split(" ")[1].split(">")
            assert previous != status
