"""Given these facts of health and alerts, then these rows."""

import pytest

from mesh.events.vocabulary.alerts import AlertAcknowledged, AlertPending, AlertRaised, AlertResolved
from mesh.events.vocabulary.health import NodeSampled, PeerSampled, StatusChanged
from mesh.projections.folds.alert_history import ALERT_HISTORY
from mesh.projections.folds.alerts import ALERTS
from mesh.projections.folds.health_samples import HEALTH_SAMPLES
from mesh.projections.folds.peer_health import PEER_HEALTH, WINDOW
from tests.kit.tables import NODE, event, folded, only_row


def peer_sampled(latency_ms: float = 10.0) -> PeerSampled:
    return PeerSampled(
        peer="p",
        latency_ms=latency_ms,
        jitter_ms=1.0,
        loss=0.0,
        request_latency_ms=-1.0,
        requests=0,
        success_rate=-1.0,
        throughput_bytes_s=10.0,
        experts_offered=2,
        experts_available=1,
    )


def node_sampled(disk_percent: float = 50.0) -> NodeSampled:
    return NodeSampled(
        cpu_percent=5.0,
        memory_percent=6.0,
        disk_percent=disk_percent,
        open_files_percent=1.0,
        loop_lag_ms=0.5,
        rss_bytes=1000,
        journal_backlog=0,
        requests_in_flight=1,
        queued=0,
    )


def test_samples_of_both_kinds_are_rows_of_one_table_and_not_measured_is_null() -> None:
    rows = folded(HEALTH_SAMPLES, peer_sampled(), node_sampled())
    peer, node = rows[1,], rows[2,]
    assert (peer.kind, peer.target, peer.latency_ms, peer.success_rate, peer.cpu_percent) == (
        "peer",
        "p",
        10.0,
        None,
        None,
    )
    assert (node.kind, node.target, node.cpu_percent, node.latency_ms) == ("node", NODE, 5.0, None)


def test_a_trend_is_the_slope_of_the_last_samples_a_minute() -> None:
    facts = [peer_sampled(100.0 + 2 * second) for second in range(1, 8)]
    row = only_row(PEER_HEALTH, *facts)
    assert row.latency_ms == 114.0
    assert row.latency_ms_per_min == pytest.approx(120.0)
    assert row.loss_per_min == pytest.approx(0.0)
    assert row.success_rate_per_min is None
    assert row.cpu_percent_per_min is None


def test_a_trend_is_not_bent_by_one_wild_sample_nor_made_of_too_few() -> None:
    facts = [peer_sampled(100.0 + 2 * second) for second in range(1, 11)]
    facts[4] = peer_sampled(90_000.0)
    assert only_row(PEER_HEALTH, *facts).latency_ms_per_min == pytest.approx(120.0, rel=0.2)
    assert only_row(PEER_HEALTH, peer_sampled(), peer_sampled()).latency_ms_per_min is None


def test_only_the_last_samples_are_remembered() -> None:
    row = only_row(PEER_HEALTH, *(node_sampled(float(number)) for number in range(WINDOW + 15)))
    assert len(row.recent) == WINDOW
    assert row.samples == WINDOW + 15
    assert [sample[3] for sample in row.recent] == [float(number) for number in range(15, WINDOW + 15)]


def test_a_status_has_a_beginning_and_a_before() -> None:
    def changed(previous: str, status: str, score: float) -> StatusChanged:
        return StatusChanged(
            target="p", target_kind="peer", previous=previous, status=status, score=score, factors={"loss": 0.5}
        )

    row = only_row(
        PEER_HEALTH, peer_sampled(), changed("", "good", 80.0), peer_sampled(), changed("good", "poor", 30.0)
    )
    assert (row.status, row.previous, row.score, row.status_changes) == ("poor", "good", 30.0, 2)
    assert (row.since_at, row.factors) == ("2026-11-22T10:00:04.000000Z", {"loss": 0.5})
    assert only_row(PEER_HEALTH, peer_sampled()).status == "unknown"


ALERT = "peer_lost/p"
PENDING = AlertPending(alert=ALERT, rule="peer_lost", target="p", severity="error", summary="lost", evidence={"s": 1.0})
RAISED = AlertRaised(
    alert=ALERT, rule="peer_lost", target="p", severity="error", summary="lost", held_s=5.0, evidence={"s": 6.0}
)
ACKNOWLEDGED = AlertAcknowledged(alert=ALERT, actor="ann", note="on it")
RESOLVED = AlertResolved(alert=ALERT, reason="it is back", open_s=60.0, evidence={})


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ([PENDING], "pending"),
        ([PENDING, RAISED], "raised"),
        ([RAISED], "raised"),
        ([PENDING, RAISED, ACKNOWLEDGED], "acknowledged"),
        ([PENDING, RAISED, ACKNOWLEDGED, RESOLVED], "resolved"),
        ([PENDING, RESOLVED], "resolved"),
        ([PENDING, RAISED, RESOLVED, ACKNOWLEDGED], "resolved"),
        ([PENDING, RAISED, RESOLVED, PENDING], "pending"),
    ],
)
def test_the_state_of_an_alert(facts: list, state: str) -> None:
    assert only_row(ALERTS, *facts).state == state


def test_a_new_episode_forgets_the_last_one_but_not_how_often() -> None:
    row = only_row(ALERTS, PENDING, RAISED, ACKNOWLEDGED, RESOLVED, PENDING, RAISED)
    assert (row.raised, row.state, row.acknowledged_by, row.resolved_at, row.open_s) == (2, "raised", None, None, None)
    assert (row.pending_at, row.raised_at) == ("2026-11-22T10:00:05.000000Z", "2026-11-22T10:00:06.000000Z")


def test_the_history_has_each_step_with_its_actor_and_evidence() -> None:
    rows = list(folded(ALERT_HISTORY, PENDING, RAISED, ACKNOWLEDGED, RESOLVED).values())
    assert [row.step for row in rows] == ["pending", "raised", "acknowledged", "resolved"]
    assert (rows[1].lasted_s, rows[1].evidence, rows[1].severity) == (5.0, {"s": 6.0}, "error")
    assert (rows[2].actor, rows[2].note) == ("ann", "on it")
    assert (rows[3].note, rows[3].lasted_s) == ("it is back", 60.0)


def test_an_alert_whose_beginning_is_missing_is_named_by_its_id() -> None:
    row = only_row(ALERTS, event(ACKNOWLEDGED, 1))
    assert (row.rule, row.target, row.state, row.acknowledged_by) == ("peer_lost", "p", "pending", "ann")
