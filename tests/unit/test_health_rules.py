import pytest

from mesh.events.vocabulary.alerts import AlertRaised
from mesh.events.vocabulary.experts import ExpertDeregistered, ExpertExpired, ExpertRegistered
from mesh.events.vocabulary.network import PeerConfirmedDown, PeerLeft, PeerRejoined
from mesh.health.decide import next_due
from tests.kit.health_story import (
    NODE,
    PEER,
    T0,
    Story,
    connected,
    disconnected,
    node_sample,
    offered,
    peer_sample,
    started,
)

# The rules about single things are looked at alone here.
QUIET = {"domain_uncovered": {"enabled": False}}


def a_peer() -> Story:
    return Story(alerts=QUIET).given(0, started(), connected())


class TestPeerLost:
    def test_pending_at_once_raised_after_five_seconds_resolved_on_return(self):
        story = a_peer().given(100, disconnected())
        assert story.alerts_when(100) == ["pending peer_lost/peer"]
        assert story.alerts_when(104.9) == []
        assert story.alerts_when(105) == ["raised peer_lost/peer"]
        assert story.alerts_when(200) == []
        assert story.given(300, connected()).alerts_when(302) == ["resolved peer_lost/peer"]

    def test_it_says_why_and_for_how_long(self):
        story = a_peer().given(100, disconnected(reason="connection reset"))
        raised = next(fact for fact in story.when(107.5) if isinstance(fact, AlertRaised))
        assert raised.summary == "peer peer is gone: connection reset"
        assert raised.evidence["gone_s"] == raised.held_s == 7.5
        assert raised.severity == "error"

    def test_a_blink_is_pending_and_no_alert(self):
        story = a_peer().given(100, disconnected())
        story.when(100)
        (resolved,) = [fact for fact in story.given(101, connected()).when(103) if fact.type == "alert.resolved"]
        assert resolved.reason.startswith("before it was raised")
        assert story.state.resolved == {}

    def test_the_silence_before_a_confirmed_death_counts(self):
        story = a_peer().given(100, PeerConfirmedDown(peer=PEER, reason="no heartbeat", silent_s=6.0))
        assert story.alerts_when(100) == ["pending peer_lost/peer", "raised peer_lost/peer"]
        assert story.given(110, PeerRejoined(peer=PEER, away_s=16)).alerts_when(110) == ["resolved peer_lost/peer"]

    def test_heard_of_without_a_connection_is_not_back(self):
        story = a_peer().given(100, disconnected(), PeerConfirmedDown(peer=PEER, reason="", silent_s=0))
        story.when(105)
        assert story.given(110, PeerRejoined(peer=PEER, away_s=10)).alerts_when(110) == []

    def test_who_was_connected_for_a_moment_only_is_not_missed(self):
        story = Story(alerts=QUIET).given(0, started()).given(100, connected()).given(101, disconnected())
        assert story.alerts_when(200) == []

    def test_who_comes_for_a_moment_only_is_not_back(self):
        story = a_peer().given(100, disconnected())
        story.when(105)
        for at in (200, 260, 320):
            assert story.given(at, connected()).alerts_when(at + 0.2) == []
            assert story.given(at + 0.3, disconnected(reason="in another mesh")).alerts_when(at + 10) == []
        assert "peer_lost/peer" in story.state.open_alerts()
        assert story.given(400, connected()).alerts_when(401.9) == []
        assert next_due(story.state, story.rules, T0 + 401.9) == T0 + 402
        assert story.alerts_when(402) == ["resolved peer_lost/peer"]

    def test_who_keeps_coming_for_a_moment_is_an_alert_as_soon_as_who_stays_away(self):
        story = a_peer().given(100, disconnected())
        for at in (101, 103):
            story.when(at)
            story.given(at, connected()).given(at + 0.3, disconnected(reason="in another mesh"))
        (raised,) = [fact for fact in story.when(105) if isinstance(fact, AlertRaised)]
        assert (raised.held_s, raised.summary) == (5.0, "peer peer is gone: in another mesh")

    def test_who_said_goodbye_and_comes_for_a_moment_only_is_not_missed(self):
        story = a_peer().given(100, PeerLeft(peer=PEER, reason="an upgrade"), disconnected())
        story.given(200, connected()).given(200.3, disconnected())
        assert story.alerts_when(300) == []

    def test_after_a_restart_peers_get_time_to_come_back(self):
        story = a_peer().given(100, started(2))
        assert story.alerts_when(129) == []
        assert story.alerts_when(130) == ["pending peer_lost/peer"]
        assert story.alerts_when(135) == ["raised peer_lost/peer"]

    def test_who_says_goodbye_is_not_missed_until_it_has_been_here_again(self):
        story = a_peer().given(100, PeerLeft(peer=PEER, reason="an upgrade"), disconnected())
        assert story.alerts_when(105) == story.alerts_when(400) == []
        story.given(500, connected()).given(600, disconnected())
        assert story.alerts_when(605) == ["pending peer_lost/peer", "raised peer_lost/peer"]

    def test_what_happens_to_other_nodes_is_not_ours(self):
        story = a_peer().given(100, disconnected(), origin="somebody else")
        assert story.alerts_when(200) == []


class TestHighLatency:
    def test_three_slow_samples_over_a_minute(self):
        story = a_peer()
        for at in (30, 60):
            story.given(at, peer_sample(latency_ms=400))
        assert story.alerts_when(60) == ["pending high_latency/peer"]
        assert story.given(90, peer_sample(latency_ms=400)).alerts_when(90) == []
        assert story.given(120, peer_sample(latency_ms=400)).alerts_when(120) == ["raised high_latency/peer"]

    def test_one_slow_sample_among_quick_ones_is_nothing(self):
        story = a_peer().given(30, peer_sample()).given(60, peer_sample()).given(90, peer_sample(latency_ms=5000))
        assert story.alerts_when(90) == []

    def test_it_clears_below_four_fifths_of_the_limit_only(self):
        story = a_peer().given(30, peer_sample(latency_ms=400))
        story.when(30)
        story.when(90)
        story.given(120, *[peer_sample(latency_ms=210)] * 3)
        assert story.alerts_when(120) == []
        story.given(150, *[peer_sample(latency_ms=190)] * 3)
        assert story.alerts_when(150) == ["resolved high_latency/peer"]

    def test_a_peer_that_leaves_is_no_longer_slow(self):
        story = a_peer().given(30, peer_sample(latency_ms=400))
        story.when(30)
        assert "resolved high_latency/peer" in story.given(40, disconnected()).alerts_when(40)

    def test_samples_of_an_older_connection_say_nothing(self):
        story = a_peer().given(30, peer_sample(latency_ms=400)).given(40, disconnected()).given(41, connected())
        assert story.alerts_when(41) == []


class TestExpertUnavailable:
    ALERT = "expert_unavailable/peer/solver"

    def test_an_offer_that_says_so(self):
        story = a_peer().given(10, offered(available=False))
        assert story.alerts_when(10) == [f"pending {self.ALERT}"]
        assert story.given(40, offered(available=False)).alerts_when(40) == [f"raised {self.ALERT}"]
        assert story.given(50, offered()).alerts_when(50) == [f"resolved {self.ALERT}"]

    def test_an_offer_that_is_not_renewed(self):
        story = a_peer().given(10, offered(valid_s=30))
        assert story.alerts_when(40) == []
        assert story.alerts_when(40.1) == [f"pending {self.ALERT}"]

    def test_an_offer_that_expired(self):
        story = a_peer().given(10, offered()).given(20, ExpertExpired(peer=PEER, expert="solver", reason="not renewed"))
        assert story.alerts_when(20) == [f"pending {self.ALERT}"]

    def test_an_offer_that_its_peer_withdrew_is_nothing(self):
        story = a_peer().given(10, offered(available=False))
        story.when(10)
        story.given(20, ExpertExpired(peer=PEER, expert="solver", reason="withdrawn"))
        assert story.alerts_when(20) == [f"resolved {self.ALERT}"]

    def test_offers_that_ended_with_the_connection_may_come_again(self):
        story = a_peer().given(10, offered(valid_s=30))
        story.given(20, disconnected(), ExpertExpired(peer=PEER, expert="solver", reason="the peer is not connected"))
        story.given(21, connected())
        assert story.alerts_when(50) == []
        assert story.given(50, offered()).alerts_when(52) == []

    def test_the_experts_of_a_lost_peer_are_left_to_peer_lost(self):
        story = a_peer().given(10, offered()).given(20, disconnected())
        assert story.alerts_when(100) == ["pending peer_lost/peer", "raised peer_lost/peer"]

    def test_after_a_reconnect_the_offer_gets_time_to_come_again(self):
        story = a_peer().given(10, offered(valid_s=30)).given(500, disconnected()).given(501, connected())
        assert story.alerts_when(530) == []
        assert story.alerts_when(532) == [f"pending {self.ALERT}"]

    def test_an_expert_of_this_node(self):
        registered = ExpertRegistered(
            expert="mine", backend="python", model="", domains=("coding",), concurrency=1, queue_limit=1
        )
        story = Story(alerts=QUIET).given(0, started(), registered)
        assert story.alerts_when(1) == []
        story.given(2, offered(NODE, "mine", ("coding",), available=False, valid_s=1))
        assert story.alerts_when(2) == ["pending expert_unavailable/node/mine"]
        assert story.given(3, offered(NODE, "mine", valid_s=1)).alerts_when(1000) == [
            "resolved expert_unavailable/node/mine"
        ]

    def test_an_expert_that_its_operator_removed_is_not_watched(self):
        story = Story(alerts=QUIET).given(0, started(), offered(NODE, "mine", available=False))
        story.when(0)
        story.given(5, ExpertDeregistered(expert="mine", reason="config"))
        assert story.alerts_when(5) == ["resolved expert_unavailable/node/mine"]


class TestDomainUncovered:
    ALERT = "domain_uncovered/mathematics"

    def test_the_last_expert_of_a_domain_leaves(self):
        story = Story().given(0, started(), connected(), connected("other"))
        story.given(50, offered(), offered("other"), disconnected())
        assert self.ALERT not in "".join(story.alerts_when(60))
        story.given(70, disconnected("other"))
        assert f"pending {self.ALERT}" in story.alerts_when(70)
        assert f"raised {self.ALERT}" in story.alerts_when(85)
        assert f"resolved {self.ALERT}" in story.given(90, connected(), offered()).alerts_when(92)

    def test_the_offer_of_who_is_here_for_a_moment_only_covers_nothing(self):
        story = Story().given(0, started(), connected()).given(50, offered(), disconnected())
        story.when(50)
        assert f"raised {self.ALERT}" in story.alerts_when(65)
        assert story.given(90, connected(), offered()).alerts_when(90.2) == []
        assert story.given(90.3, disconnected()).alerts_when(200) == []

    def test_a_domain_that_a_newcomer_brings_is_never_uncovered(self):
        story = Story().given(0, started()).given(50, connected(), offered())
        assert [story.alerts_when(at) for at in (50, 51, 52, 60)] == [[]] * 4

    def test_a_restarted_node_first_looks_around(self):
        story = Story().given(0, started(), connected()).given(50, offered()).given(100, started(2))
        assert story.alerts_when(129) == []
        assert f"pending {self.ALERT}" in story.alerts_when(130)


class TestNode:
    @pytest.mark.parametrize(
        ("metric", "value", "for_s"),
        [("cpu", 96, 300), ("memory", 93, 120), ("disk", 91, 60), ("open_files", 86, 60)],
    )
    def test_each_resource_has_a_threshold_of_its_own(self, metric, value, for_s):
        alert = f"node_resources_{metric}/node"
        story = Story().given(0, started(), node_sample(**{f"{metric}_percent": value}))
        assert story.alerts_when(0) == [f"pending {alert}"]
        assert story.alerts_when(for_s - 1) == []
        assert story.alerts_when(for_s) == [f"raised {alert}"]
        assert story.given(for_s + 30, node_sample()).alerts_when(for_s + 30) == [f"resolved {alert}"]

    def test_a_filling_disk_says_when_it_is_full(self):
        story = Story().given(0, started())
        for step in range(20):
            story.given(30 * step, node_sample(disk_percent=90 + step * 0.01))
        story.when(570)
        (raised,) = [fact for fact in story.when(630) if isinstance(fact, AlertRaised)]
        assert "full in 8 h" in raised.summary
        assert raised.evidence["full_in_s"] == pytest.approx(9.81 / 0.01 * 30, rel=0.01)

    def test_what_cannot_be_measured_leaves_an_alert_as_it_is(self):
        story = Story().given(0, started(), node_sample(disk_percent=95))
        story.when(60)
        story.when(120)
        assert story.given(130, node_sample(disk_percent=-1)).alerts_when(130) == []
        assert "node_resources_disk/node" in story.state.open_alerts()

    def test_a_backlog_of_events(self):
        story = Story().given(0, started(), node_sample(journal_backlog=20_000))
        assert story.alerts_when(0) == ["pending journal_backlog/node"]
        assert story.alerts_when(30) == ["raised journal_backlog/node"]
        assert story.given(31, node_sample(journal_backlog=6_000)).alerts_when(31) == []
        assert story.given(61, node_sample(journal_backlog=100)).alerts_when(61) == ["resolved journal_backlog/node"]
