import random

import pytest

from mesh.health.forecasts import forecast_of, span, trends
from mesh.health.trend import MAX_POINTS, MIN_POINTS, Trend, forecast, trend
from tests.kit.health_story import node_sample


def test_a_straight_line_is_found_exactly():
    found = trend([(float(x), 3.0 * x + 7) for x in range(10)])
    assert found is not None
    assert (found.slope, found.low, found.high) == pytest.approx((3, 3, 3))
    assert found.level == pytest.approx(34)


def test_a_quarter_of_wild_outliers_bends_it_little():
    points = [(float(x), 2.0 * x) for x in range(40)]
    for index in range(0, 40, 4):
        points[index] = (points[index][0], 1e6)
    found = trend(points)
    assert found is not None
    assert found.slope == pytest.approx(2, rel=0.01)


def test_too_few_points_give_no_trend():
    assert trend([(float(x), 1.0) for x in range(MIN_POINTS - 1)]) is None
    assert trend([(5.0, float(x)) for x in range(50)]) is None


def test_noise_without_a_direction_is_not_significant_more_than_rarely():
    rng = random.Random(7)
    wrong = 0
    for _ in range(300):
        found = trend([(float(x), rng.gauss(0, 1)) for x in range(20)])
        assert found is not None
        wrong += found.significant
    assert wrong / 300 < 0.08  # a 95 % interval


def test_the_interval_covers_the_true_slope_about_as_often_as_it_says():
    rng = random.Random(11)
    covered = 0
    for _ in range(300):
        found = trend([(float(x), 0.5 * x + rng.gauss(0, 3)) for x in range(20)])
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert covered / 300 > 0.92


def test_a_forecast_says_when_the_limit_is_reached():
    found = trend([(float(x), 80 + 0.5 * x) for x in range(11)])
    assert found is not None
    ahead = forecast(found, 100.0)
    assert ahead is not None
    assert (ahead.in_s, ahead.earliest_s, ahead.latest_s) == pytest.approx((30, 30, 30))


@pytest.mark.parametrize(
    ("slope", "low", "high", "level"),
    [(-1.0, -2.0, -0.5, 50.0), (1.0, -0.1, 2.0, 50.0), (0.0, 0.0, 0.0, 50.0), (1.0, 0.5, 2.0, 100.0)],
    ids=["away from it", "no clear direction", "flat", "already there"],
)
def test_there_is_no_forecast(slope, low, high, level):
    assert forecast(Trend(slope=slope, low=low, high=high, level=level, points=9, span_s=9), 100.0) is None


def test_many_points_are_thinned_and_the_last_is_kept():
    found = trend([(float(x), 1.0 * x) for x in range(1000)])
    assert found is not None
    assert found.points <= MAX_POINTS
    assert found.level == pytest.approx(999)


def test_a_filling_disk_is_forecast_from_samples():
    samples = [(30.0 * x, node_sample(disk_percent=60 + 0.055 * x, memory_percent=-1)) for x in range(20)]
    ahead = forecast_of(samples, "disk_percent")
    assert ahead is not None
    assert span(ahead.in_s) == "6 h"
    assert forecast_of(samples, "memory_percent") is None
    assert "memory_percent" not in trends(samples)


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (119, "119 s"), (600, "10 min"), (21_600, "6 h"), (864_000, "10 d")]
)
def test_spans_for_people(seconds, text):
    assert span(seconds) == text
