import pytest

from mesh.p2p.detector import MOST_PHI, PhiDetector
from mesh.p2p.liveness import ConfirmedDown, Lateness, Liveness, LocalHealth, Rejoined, Suspected


def beaten(gaps, interval_s=1.0):
    detector, now = PhiDetector(interval_s, 0.0), 0.0
    for gap in gaps:
        now += gap
        detector.beat(now)
    return detector, now


def test_suspicion_only_grows_with_silence_and_ends_with_a_beat():
    detector, now = beaten([1.0] * 20)
    phis = [detector.phi(now + silence / 10) for silence in range(200)]
    assert phis == sorted(phis)
    assert phis[10] < 0.1
    assert phis[-1] == MOST_PHI
    detector.beat(now + 20)
    assert detector.phi(now + 20.5) < 0.1


def test_an_irregular_peer_is_given_more_time():
    steady, now = beaten([1.0] * 50)
    irregular, later = beaten([0.4, 1.6] * 25)
    assert irregular.phi(later + 2.7) < steady.phi(now + 2.7)


@pytest.mark.parametrize("gaps", [[1.0] * 100, [0.2, 1.8] * 50, [0.0] * 100, [5.0] * 100, []])
def test_death_is_confirmed_within_five_heartbeats_whatever_came_before(gaps):
    liveness, now = Liveness(1.0, 0.0), 0.0
    for gap in gaps:
        now += gap
        liveness.beat(now)
    changes = []
    for quarter in range(1, 21):
        change = liveness.check(now + quarter / 4)
        if change is not None:
            changes.append(change)
    assert [type(change) for change in changes] == [Suspected, ConfirmedDown]
    assert changes[1].silent_s <= 5.0
    assert changes[0].silent_s >= 1.5


def test_one_lost_heartbeat_accuses_nobody():
    liveness = Liveness(1.0, 0.0)
    for second in range(1, 30):
        liveness.beat(float(second))
    assert all(liveness.check(29 + quarter / 4) is None for quarter in range(9))


def test_coming_back_is_news_once():
    liveness = Liveness(1.0, 0.0)
    liveness.beat(1.0)
    assert isinstance(liveness.check(9.0), Suspected)
    assert isinstance(liveness.check(9.25), ConfirmedDown)
    assert liveness.check(60.0) is None
    assert liveness.beat(61.0) == Rejoined(60.0)
    assert liveness.beat(62.0) is None
    assert liveness.check(62.5) is None


def test_other_traffic_is_a_sign_of_life_too():
    liveness = Liveness(1.0, 0.0)
    for second in range(1, 30):
        assert liveness.heard(float(second)) is None
        assert liveness.check(second + 0.9) is None


def test_our_own_pause_accuses_nobody():
    ourselves, liveness = LocalHealth(0.25, 0.0), Liveness(1.0, 0.0)
    now = 0.0
    for _ in range(40):
        now += 0.25
        assert ourselves.tick(now) == 0
        liveness.beat(now)
    now += 30  # stopped, and going on
    lost = ourselves.tick(now)
    assert lost == pytest.approx(29.75)
    liveness.excuse(lost, now)
    assert liveness.check(now) is None
    assert ourselves.tick(now + 0.25) == 0
    assert liveness.check(now + 0.25) is None
    assert isinstance(liveness.check(now + 5), Suspected)  # but a true silence afterwards is found as ever


def test_small_lateness_of_a_busy_loop_is_not_a_pause():
    ourselves = LocalHealth(0.25, 0.0)
    assert ourselves.tick(0.45) == 0
    assert ourselves.tick(1.2) == pytest.approx(0.5)


def test_lateness_is_the_longest_answer_of_late_or_what_is_waited_for():
    lateness = Lateness(remember_s=4.0)
    assert lateness.late_s(0.0) == 0
    lateness.asked(1.0)
    assert lateness.late_s(3.0) == 2.0
    lateness.answered(3.5)
    lateness.asked(4.0)
    lateness.answered(4.5)
    assert lateness.late_s(7.5) == 2.5
    assert lateness.late_s(8.0) == 0.5
    lateness.asked(8.0)
    assert lateness.late_s(9.0) == 1.0
    lateness.answered(9.0)
    assert lateness.late_s(14.0) == 0


@pytest.mark.parametrize("late_s", [0.0, 1.5, 6.0])
def test_who_hears_late_confirms_a_death_that_much_later_and_no_more(late_s):
    liveness = Liveness(1.0, 0.0)
    for second in range(1, 30):
        liveness.beat(float(second))
    news = [
        (now - 29, change)
        for now in (29 + quarter / 4 for quarter in range(60))
        if (change := liveness.check(now, late_s)) is not None
    ]
    assert [type(change) for _, change in news] == [Suspected, ConfirmedDown]
    assert 2.25 + late_s <= news[0][0] <= news[1][0] <= 5 + late_s
    assert news[1][1].silent_s == news[1][0]  # what is told is what was seen
