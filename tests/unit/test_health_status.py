import pytest

from mesh.events.vocabulary.network import PeerConfirmedDown
from mesh.health.status import called_for, settle, status_of
from tests.kit.health_story import PEER, Story, connected, disconnected, node_sample, peer_sample, started, statuses


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (1.0, "excellent"),
        (0.9, "excellent"),
        (0.899, "good"),
        (0.75, "good"),
        (0.5, "fair"),
        (0.25, "poor"),
        (0, "critical"),
    ],
)
def test_thresholds(value, status):
    assert status_of(value) == status


def test_within_the_margin_nothing_changes():
    assert called_for(0.88, "excellent") == "excellent"
    assert called_for(0.92, "good") == "good"
    assert called_for(0.86, "excellent") == "good"
    assert called_for(0.94, "good") == "excellent"


def test_one_bad_sample_among_good_ones_changes_nothing():
    assert settle([1.0, 0.1, 1.0], "excellent") == "excellent"


def test_it_moves_only_as_far_as_all_samples_agree():
    assert settle([0.6, 0.3, 0.1], "excellent") == "fair"
    assert settle([0.3, 0.6, 0.95], "critical") == "poor"


def test_samples_that_disagree_about_the_direction_change_nothing():
    assert settle([1.0, 0.1, 1.0], "fair") == "fair"


def test_the_first_sample_decides_and_later_changes_take_three():
    story = Story().given(0, started(), node_sample())
    assert statuses(story.when(0)) == ["node ->excellent"]
    for at in (30, 60):
        assert statuses(story.given(at, node_sample(disk_percent=99)).when(at)) == []
    assert statuses(story.given(90, node_sample(disk_percent=99)).when(90)) == ["node excellent>critical"]


def test_a_restart_forgets_the_samples_of_before_but_not_the_status():
    story = Story().given(0, started(), node_sample())
    story.when(0)
    story.given(30, node_sample(disk_percent=99), node_sample(disk_percent=99)).given(40, started(2))
    assert statuses(story.given(41, node_sample(disk_percent=99)).when(41)) == []
    assert story.state.own.standing.status == "excellent"


def test_a_peer_that_is_gone_is_critical_and_the_first_sample_after_its_return_decides():
    story = Story().given(0, started(), connected()).given(10, peer_sample())
    assert statuses(story.when(10)) == ["peer ->excellent"]
    story.given(20, disconnected())
    assert statuses(story.when(21)) == []
    assert statuses(story.when(25)) == ["peer excellent>critical"]
    story.given(30, connected())
    assert statuses(story.when(30)) == []
    assert statuses(story.given(31, peer_sample(latency_ms=120)).when(31)) == ["peer critical>good"]


def test_a_peer_that_is_confirmed_down_is_critical_at_once():
    story = Story().given(0, started(), connected()).given(10, peer_sample(), disconnected())
    story.given(10.5, PeerConfirmedDown(peer=PEER, reason="silent", silent_s=0.4))
    assert statuses(story.when(10.5)) == ["peer ->critical"]


def test_the_factors_of_a_change_are_those_of_its_sample():
    story = Story().given(0, started(), node_sample(memory_percent=90))
    (change,) = story.when(0)
    assert change.score == change.factors["memory"] == pytest.approx(0.6)
    assert change.target_kind == "node"
