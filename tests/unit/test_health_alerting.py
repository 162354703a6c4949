import pytest

from mesh.config import AlertsConfig
from mesh.errors import ConfigError
from mesh.events.vocabulary.alerts import AlertAcknowledged
from mesh.health.alerting import MAX_OPEN_PER_RULE, AlertNotOpen, acknowledge
from mesh.health.rules.overrides import configured
from tests.kit.health_story import Story, connected, disconnected, node_sample, started

LOST = "peer_lost/peer"


@pytest.fixture
def raised() -> Story:
    story = Story().given(0, started(), connected()).given(100, disconnected())
    story.when(105)
    return story


def test_acknowledging_a_raised_alert(raised):
    fact = acknowledge(raised.state, LOST, "ann", "on it")
    assert fact == AlertAcknowledged(alert=LOST, actor="ann", note="on it")
    raised.given(110, fact)
    assert raised.state.alerts[LOST].actor == "ann"
    assert raised.alerts_when(120) == []
    assert raised.given(130, connected()).alerts_when(132) == [f"resolved {LOST}"]


def test_an_unknown_alert_lists_the_open_ones(raised):
    with pytest.raises(AlertNotOpen, match=r"no alert 'peer_lost/nobody'.*Open: peer_lost/peer\."):
        acknowledge(raised.state, "peer_lost/nobody", "ann", "")


def test_acknowledging_twice_names_who_did(raised):
    raised.given(110, acknowledge(raised.state, LOST, "ann", ""))
    with pytest.raises(AlertNotOpen, match="already acknowledged by ann"):
        acknowledge(raised.state, LOST, "bob", "")


def test_acknowledging_what_is_resolved(raised):
    raised.given(110, connected())
    raised.when(112)
    with pytest.raises(AlertNotOpen, match="resolved already"):
        acknowledge(raised.state, LOST, "ann", "")


def test_acknowledging_what_is_only_pending():
    story = Story().given(0, started(), connected()).given(100, disconnected())
    story.when(100)
    with pytest.raises(AlertNotOpen, match="pending and not raised yet"):
        acknowledge(story.state, LOST, "ann", "")


def test_an_alert_that_comes_back_is_a_new_episode(raised):
    first = raised.state.alerts[LOST].episode
    raised.given(110, connected())
    raised.when(112)
    raised.given(120, disconnected())
    assert raised.alerts_when(125) == [f"pending {LOST}", f"raised {LOST}"]
    assert raised.state.alerts[LOST].episode != first


def test_a_replayed_journal_has_the_same_alerts_and_decides_nothing(raised):
    state = raised.replayed()
    assert state.digest() == raised.state.digest()
    raised.state = state
    assert raised.when(106) == []


def test_a_pending_alert_of_before_a_restart_starts_to_count_anew():
    story = Story().given(0, started(), node_sample(disk_percent=95))
    story.when(0)
    story.given(3600, started(2))
    assert story.alerts_when(3601) == []
    story.given(3602, node_sample(disk_percent=95))
    assert story.alerts_when(3659) == []
    assert story.alerts_when(3660) == ["raised node_resources_disk/node"]


def test_one_cause_cannot_open_alerts_without_end():
    story = Story().given(0, started())
    for number in range(MAX_OPEN_PER_RULE + 50):
        story.given(0, connected(f"peer-{number}"))
    for number in range(MAX_OPEN_PER_RULE + 50):
        story.given(10, disconnected(f"peer-{number}"))
    story.when(100)
    assert len(story.state.alerts) == MAX_OPEN_PER_RULE


def test_a_rule_that_was_turned_off_resolves_its_alerts(raised):
    raised.rules = configured(AlertsConfig.model_validate({"rules": {"peer_lost": {"enabled": False}}}))
    assert raised.alerts_when(110) == [f"resolved {LOST}"]


def test_overrides_change_one_rule_and_a_group_changes_all_of_it():
    overrides = {
        "node_resources": {"for_s": 5, "severity": "info"},
        "node_resources_disk": {"threshold": 50, "severity": "critical"},
    }
    rules = {rule.name: rule for rule in configured(AlertsConfig.model_validate({"rules": overrides}))}
    assert (rules["node_resources_cpu"].for_s, rules["node_resources_cpu"].severity) == (5, "info")
    disk = rules["node_resources_disk"]
    assert (disk.threshold, disk.for_s, disk.severity) == (50, 5, "critical")
    assert rules["high_latency"].for_s == 60


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"peer_lots": {}}, r"alerts\.rules\.peer_lots is not an alert rule\. Did you mean peer_lost\?"),
        ({"zzz": {}}, r"The rules are domain_uncovered, expert_unavailable"),
        ({"peer_lost": {"threshold": 3}}, r"peer_lost\.threshold = 3: this rule compares nothing"),
        ({"high_latency": {"threshold": 0}}, r"high_latency\.threshold = 0 is not above 0.*250 ms"),
    ],
)
def test_overrides_that_make_no_sense(rules, message):
    with pytest.raises(ConfigError, match=message):
        configured(AlertsConfig.model_validate({"rules": rules}))
