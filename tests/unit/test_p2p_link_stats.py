import pytest

from mesh.p2p.link_stats import Heartbeats


def exchange(beats, now, trip, skew=0.0):
    sequence = beats.send(now)
    return beats.answer(sequence, now + trip, asked=1000 + now, answered=1000 + now + trip / 2 + skew)


def test_nothing_measured_is_not_zero():
    beats = Heartbeats(1.0)
    assert (beats.latency_s, beats.jitter_s, beats.loss) == (-1, -1, 0)


def test_latency_follows_the_round_trip_and_jitter_its_variation():
    beats = Heartbeats(1.0)
    for second in range(100):
        assert exchange(beats, second, 0.020)
    assert beats.latency_s == pytest.approx(0.020)
    assert beats.jitter_s < 0.001
    for second in range(100, 200):
        exchange(beats, second, 0.010 if second % 2 else 0.030)
    assert 0.015 < beats.latency_s < 0.025
    assert 0.005 < beats.jitter_s < 0.015


def test_loss_is_what_is_not_answered_in_time():
    beats = Heartbeats(1.0)
    for second in range(400):
        sequence = beats.send(second)
        if second % 4:
            beats.answer(sequence, second + 0.01, asked=0, answered=0)
    assert beats.loss == pytest.approx(0.25, abs=0.08)


def test_a_late_or_invented_answer_counts_for_nothing():
    beats = Heartbeats(1.0)
    first = beats.send(0)
    beats.send(3)
    assert not beats.answer(first, 3.1, asked=0, answered=0)
    assert not beats.answer(99, 3.1, asked=0, answered=0)
    assert beats.latency_s == -1


def test_a_lost_stream_and_our_own_pause_are_no_loss_of_the_link():
    beats = Heartbeats(1.0)
    beats.send(0)
    beats.forget_pending()
    beats.send(10)
    assert beats.loss == 0
    beats.excuse(30)
    sequence = beats.send(41)
    assert beats.loss == 0
    assert beats.answer(sequence, 41.01, asked=0, answered=0)


def test_clock_skew_is_seen_through_the_round_trip():
    beats = Heartbeats(1.0)
    exchange(beats, 5, 0.2, skew=60)
    assert beats.clock_skew_s == pytest.approx(60)
