"""What the benchmarks make of what they saw."""

from benchmarks import peer_trouble
from benchmarks.gateway import first_of
from benchmarks.peer_death import Asked, measures
from benchmarks.topology import degrees


def test_ten_are_all_connected_and_of_more_each_to_the_first_and_four_others() -> None:
    assert degrees(10) == [9] * 10
    assert degrees(50) == [49] + [5] * 49


def test_a_first_piece_that_came_with_the_second_was_held_back() -> None:
    assert first_of([("1000000 ", 3_000_000), ("9000000 ", 9_500_000)]) == (2.0, False)
    assert first_of([("1000000 9000000 ", 9_500_000)]) == (8.5, True)


def test_what_follows_a_death_is_counted_to_it_and_not_to_the_next() -> None:
    asked = [Asked(99.0, 99.5), Asked(99.9, 100.2, "disconnected"), Asked(199.9, 200.1), Asked(201.0, 201.3)]
    found = {measure.name: measure.value for measure in measures([100.0, 200.0], asked, [100.05, 100.15, 200.05])}
    assert round(found["peer death to the last failed request, worst"]) == 200
    assert round(found["peer death to the last failed attempt, worst"]) == 150
    assert round(found["peer death to the last failed attempt, p50"]) == 50
    assert round(found["request under way at a peer's death, slowest"]) == 300


def test_what_one_peer_in_trouble_costs_is_told_beside_what_it_takes_without() -> None:
    domains = (peer_trouble.WELL, "slow", "failing")
    here, more = peer_trouble.Asked(domains), peer_trouble.Asked(domains)
    for domain, took_ms in zip(domains, (100.0, 131.0, 130.0), strict=True):
        here.took_ms[domain] = [50.0] * 99
        more.took_ms[domain] = [took_ms] * 99
    more.failed["failing"] = 1
    here.add(more)
    met = {measure.name: measure.met for measure in peer_trouble.measures(here)}
    assert list(met.values()) == [None, False, True, True, False]
