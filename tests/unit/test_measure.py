import pytest

from benchmarks.measure import (
    Measure,
    above,
    at_least,
    at_most,
    at_most_more,
    below,
    beside,
    percentile,
    timed,
    watched,
)


def test_a_percentile_is_a_value_that_was_measured():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, p) for p in (0, 20, 21, 50, 99, 100)] == [1.0, 1.0, 2.0, 3.0, 5.0, 5.0]


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_a_percentile_that_makes_no_sense_is_refused(values, percent):
    with pytest.raises(ValueError, match="percent"):
        percentile(values, percent)


def test_timed_measures_also_what_failed():
    with pytest.raises(ZeroDivisionError), timed() as took:
        _ = 1 / 0
    assert took.seconds > 0
    assert took.ms == took.seconds * 1000


def test_a_goal_is_met_at_its_boundary_and_missed_beyond():
    assert at_least("x", 25, "e/s", baseline="core publish", against=100, times=0.25) == Measure(
        "x", 25, "e/s", "core publish", 0.25, "≥ 0.25×", True
    )
    assert at_least("x", 24, "e/s", baseline="b", against=100, times=0.25).met is False
    assert at_most("x", 2, "ms", baseline="b", against=1, times=2).met is True
    assert at_most("x", 2.1, "ms", baseline="b", against=1, times=2).met is False
    assert below("x", 50, "ms", limit=50).met is True
    assert below("x", 51, "ms", limit=50).met is False
    assert above("x", 50, "e/s", limit=51).met is False
    assert at_most_more("x", 2.5, "ms", baseline="b", against=1, more=1.5) == Measure(
        "x", 2.5, "ms", "b", 2.5, "≤ 1.5 ms more", True
    )
    assert at_most_more("x", 2.6, "ms", baseline="b", against=1, more=1.5).met is False
    assert beside("x", 3, "ms", baseline="b", against=2) == Measure("x", 3, "ms", "b", 1.5, "", None)
    assert watched("x", 1, "MB").met is None
