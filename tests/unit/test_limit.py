"""The limit of calls at once: found where the backend is, kept in its bounds, and fooled by nobody."""

from hypothesis import given
from hypothesis import strategies as some

from mesh.experts.limit import BACKOFF, TOLERANCE, Limit


def backend(limit: Limit, rounds: int, *, takes: int, base_ms: float = 100.0) -> list[int]:
    """A backend that runs ``takes`` calls in ``base_ms``, and shares its time among more; always all slots are used."""
    seen = []
    for _ in range(rounds):
        running = limit.now
        work_ms = base_ms * max(1.0, running / takes)
        for _ in range(max(8, running)):
            limit.finished(work_ms, running)
        seen.append(limit.now)
    return seen


def quiet(limit: Limit, work_ms: float = 100.0) -> None:
    for _ in range(max(8, limit.now)):
        limit.finished(work_ms, 1)


def test_it_begins_where_the_operator_wants_it_and_stays_there_while_all_is_well() -> None:
    limit = Limit(1, 16)
    assert limit.now == 16
    quiet(limit)
    assert set(backend(limit, 20, takes=16)) == {16}


def test_it_finds_what_the_backend_takes_within_the_tolerance() -> None:
    limit = Limit(1, 64)
    quiet(limit)
    seen = backend(limit, 60, takes=8)
    assert max(seen[20:]) <= 8 * TOLERANCE + 2
    assert min(seen[20:]) >= 8


def test_what_is_slow_because_of_us_does_not_become_the_measure() -> None:
    limit = Limit(1, 64)
    quiet(limit)
    backend(limit, 500, takes=8)
    assert limit.baseline_ms == 100


def test_it_grows_again_when_the_backend_does() -> None:
    limit = Limit(1, 32)
    quiet(limit)
    backend(limit, 40, takes=4)
    assert limit.now < 12
    assert backend(limit, 60, takes=64)[-1] == 32


def test_work_that_has_become_longer_for_good_is_learnt() -> None:
    limit = Limit(1, 16)
    quiet(limit)
    seen = backend(limit, 80, takes=16, base_ms=1000)
    assert min(seen) == 1
    assert seen[-1] == 16


def test_a_backend_that_says_it_has_too_much_is_believed() -> None:
    limit = Limit(2, 16)
    changed = [limit.finished(1, 16, congested=True) for _ in range(16)]
    assert changed.count(True) == 1
    assert limit.now == int(16 * BACKOFF)
    assert "too much for the backend" in limit.reason
    for _ in range(200):
        limit.finished(1, 16, congested=True)
    assert limit.now == 2


def test_the_wait_is_that_of_those_ahead_over_all_slots() -> None:
    limit = Limit(4, 4)
    assert limit.expected_wait_s(100) == 0
    backend(limit, 1, takes=4)
    assert limit.expected_wait_s(7) == 0.2


@given(some.lists(some.tuples(some.floats(0, 1e6), some.integers(1, 40), some.booleans()), max_size=300))
def test_it_never_leaves_its_bounds(calls: list[tuple[float, int, bool]]) -> None:
    limit = Limit(3, 12)
    for work_ms, running, congested in calls:
        limit.finished(work_ms, running, congested=congested)
        assert 3 <= limit.now <= 12
