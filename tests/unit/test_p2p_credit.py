import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p.credit import Budget, ReceiveWindow


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
