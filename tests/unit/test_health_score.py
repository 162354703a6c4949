import pytest

from mesh.health.score import NODE_CURVES, PEER_CURVES, factor, node_factors, peer_factors, score
from tests.kit.health_story import node_sample, peer_sample


def test_a_curve_is_linear_between_its_points_and_flat_beyond():
    curve = NODE_CURVES["memory"]
    assert [factor(curve, value) for value in (0, 75, 82.5, 90, 98.5, 100, 300)] == pytest.approx(
        [1.0, 1.0, 0.8, 0.6, 0.125, 0.0, 0.0]
    )


def test_the_worst_factor_is_the_score():
    factors = node_factors(node_sample(disk_percent=100.0))
    assert factors["cpu"] == 1.0
    assert score(factors) == factors["disk"] == 0.0


def test_what_was_not_measured_does_not_count():
    assert "cpu" not in node_factors(node_sample(cpu_percent=-1.0))
    assert peer_factors(peer_sample(latency_ms=-1, jitter_ms=-1, loss=-1)) == {}
    assert score({}) == -1


def test_a_busy_processor_alone_never_makes_a_node_poor():
    assert score(node_factors(node_sample(cpu_percent=100.0))) == pytest.approx(0.6)


def test_few_requests_say_nothing_about_success():
    assert "success" not in peer_factors(peer_sample(requests=4, success_rate=0.0))
    assert peer_factors(peer_sample(requests=5, success_rate=0.0))["success"] == 0.0


def test_availability_is_the_share_of_offered_experts():
    assert peer_factors(peer_sample(experts_offered=2, experts_available=1))["availability"] == pytest.approx(0.65)
    assert "availability" not in peer_factors(peer_sample(experts_offered=0))


@pytest.mark.parametrize(("name", "curve"), [*NODE_CURVES.items(), *PEER_CURVES.items()])
def test_every_curve_rises_in_its_values_and_covers_the_scale(name, curve):
    values = [value for value, _ in curve]
    assert values == sorted(set(values)), name
    assert max(part for _, part in curve) == 1.0
    assert all(0 <= part <= 1 for _, part in curve)


@pytest.mark.parametrize(("name", "curve"), [*NODE_CURVES.items(), *PEER_CURVES.items()])
def test_every_curve_goes_one_way(name, curve):
    parts = [part for _, part in curve]
    higher_is_better = name in {"success", "availability"}
    assert parts == sorted(parts, reverse=not higher_is_better)
