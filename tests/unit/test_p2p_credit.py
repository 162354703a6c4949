import random

import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p.credit import SHARED_BYTES, Budget, ReceiveWindow, SmallCalls

WINDOW = 4 * SHARED_BYTES


def test_grants_come_when_half_the_window_is_consumed():
    window = ReceiveWindow(100)
    window.arrive(100)
    assert [window.consume(20) for _ in range(5)] == [0, 0, 60, 0, 0]
    window.arrive(60)
    with pytest.raises(PeerMisbehaved) as caught:
        window.arrive(1)
    assert caught.value.rule == "over_credit"


def test_a_sender_that_follows_the_grants_is_never_accused_nor_starved():
    window, credit, sent = ReceiveWindow(10), 10, 0
    for _ in range(1000):
        assert credit > 0
        size = min(credit, 7)
        window.arrive(size)
        credit += window.consume(size) - size
        sent += size
    assert sent > 3000


def test_beside_small_calls_less_of_a_body_is_under_way_and_alone_it_has_its_window_back_at_once():
    window = ReceiveWindow(WINDOW)
    window.arrive(WINDOW - SHARED_BYTES)
    assert window.consume(WINDOW - SHARED_BYTES, shared=True) == 0, "what was granted is as much as it may have"
    for _ in range(10):
        window.arrive(SHARED_BYTES // 2)
        assert window.consume(SHARED_BYTES // 2, shared=True) == SHARED_BYTES // 2
    window.arrive(1)
    assert window.consume(1, shared=False) == WINDOW - SHARED_BYTES + 1


def test_what_nobody_took_yet_counts_as_under_way():
    window = ReceiveWindow(WINDOW)
    window.arrive(WINDOW)
    assert window.consume(WINDOW // 2, shared=True) == 0
    assert window.consume(WINDOW // 2 - SHARED_BYTES // 2, shared=True) == SHARED_BYTES // 2


@pytest.mark.parametrize("size", [1024, SHARED_BYTES, WINDOW])
def test_whoever_comes_and_goes_the_sender_is_never_stuck_nor_given_more_than_the_window(size):
    rng = random.Random(size)
    window, credit, shared = ReceiveWindow(size), size, False
    for _ in range(3000):
        sent = rng.randint(1, credit)
        window.arrive(sent)
        shared ^= rng.random() < 0.2
        credit += window.consume(sent, shared=shared) - sent
        assert 0 < credit <= size


def test_small_calls_are_remembered_for_a_tenth_of_a_second():
    small = SmallCalls()
    assert not small.lately(0.0)
    small.passed(5.0)
    assert [small.lately(now) for now in (5.0, 5.09, 5.11)] == [True, True, False]


def test_a_budget_is_shared_and_given_back():
    everyone = Budget(100)
    one, other = Budget(60, everyone), Budget(60, everyone)
    assert one.reserve(60)
    assert not one.reserve(1)
    assert not other.reserve(41)
    assert other.reserve(40)
    assert everyone.used == 100
    one.release(60)
    assert other.reserve(20)
    assert (one.used, other.used, everyone.used) == (0, 60, 60)
