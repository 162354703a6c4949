import random

import pytest

from mesh.p2p.backoff import Backoff
from mesh.p2p.membership import DEFER_S, GIVE_UP_ATTEMPTS, Membership


def membership(own="b", least=1.0, most=60.0):
    return Membership(own, least, most, random.Random(1))


def due(members, now):
    return [member.peer for member in members.take_due(now)]


def test_backoff_doubles_within_its_spread_up_to_the_limit_and_starts_again():
    backoff = Backoff(1.0, 60.0, random.Random(3))
    pauses = [backoff.fail() for _ in range(12)]
    for expected, pause in zip([1, 2, 4, 8, 16, 32, 60], pauses, strict=False):
        assert expected * 0.8 <= pause <= min(60, expected * 1.2)
    assert max(pauses) <= 60
    backoff.succeed()
    assert backoff.fail() <= 1.2


def test_backoff_never_overflows():
    backoff = Backoff(1e-3, 5.0, random.Random(3))
    assert all(backoff.fail() <= 5 for _ in range(5000))


def test_the_smaller_peer_id_dials_at_once_and_the_other_gives_it_a_moment():
    members = membership(own="b")
    members.learn("a", ["/x"], 0.0)
    members.learn("c", ["/x"], 0.0)
    assert due(members, 0.0) == ["c"]
    assert due(members, 0.0) == []
    assert members.next_due() == pytest.approx(DEFER_S)
    assert due(members, DEFER_S) == ["a"]


def test_who_got_connected_meanwhile_is_not_dialled():
    members = membership()
    members.learn("a", ["/x"], 0.0)
    members.connected("a", 0.1)
    assert due(members, 10) == []
    assert members.next_due() is None


def test_we_never_dial_ourselves_nor_anybody_without_an_address():
    members = membership()
    assert not members.learn("b", ["/x"], 0.0)
    assert not members.learn("c", [], 0.0)
    assert due(members, 100) == []


def test_failures_are_spaced_ever_wider_and_a_learned_peer_is_given_up():
    members, now, attempts = membership(), 0.0, []
    members.learn("c", ["/x"], now)
    while members.members:
        assert due(members, now) == ["c"]
        attempt, pause = members.failed("c", now)
        attempts.append((attempt, pause))
        assert due(members, now + pause * 0.99) == []
        now += pause
    assert [attempt for attempt, _ in attempts] == list(range(1, GIVE_UP_ATTEMPTS + 1))
    assert attempts[-1][1] == 0
    assert members.learn("c", ["/x"], now)
    assert due(members, now) == ["c"]


def test_a_static_peer_is_never_given_up_nor_forgotten():
    members, now = membership(), 0.0
    members.learn("c", ["/x"], now, static=True)
    for _ in range(GIVE_UP_ATTEMPTS * 3):
        assert due(members, now) == ["c"]
        now += members.failed("c", now)[1]
    members.forget("c")
    assert due(members, now) == ["c"]


def test_a_new_address_is_tried_at_once_and_a_known_one_changes_nothing():
    members = membership()
    assert members.learn("c", ["/old"], 0.0)
    due(members, 0.0)
    for _ in range(10):
        members.failed("c", 0.0)
    assert not members.learn("c", ["/old"], 1.0)
    assert due(members, 1.0) == []
    assert members.learn("c", ["/new"], 1.0)
    assert due(members, 1.0) == ["c"]
    assert members.members["c"].addresses == ("/new", "/old")


def test_a_connection_that_does_not_hold_is_no_reason_to_dial_in_a_circle():
    members, now, pauses = membership(), 0.0, []
    members.learn("c", ["/x"], now)
    for _ in range(8):
        assert due(members, now) == ["c"]
        members.connected("c", now)
        members.disconnected("c", now + 0.01)
        pauses.append(members.next_due() - now)
        now = members.next_due()
    assert pauses[-1] > 40


def test_after_a_connection_that_held_the_first_redial_is_soon():
    members = membership()
    members.learn("c", ["/x"], 0.0)
    for _ in range(8):
        due(members, 1000.0)
        members.failed("c", 0.0)
    members.connected("c", 1000.0)
    members.disconnected("c", 1100.0)
    assert members.next_due() <= 1101.2


def test_a_peer_that_misbehaved_waits_for_the_longest():
    members = membership()
    members.learn("c", ["/x"], 0.0)
    members.connected("c", 0.0)
    members.disconnected("c", 100.0, penalty_s=60.0)
    assert members.next_due() >= 160


def test_a_dial_that_is_over_only_once_its_peer_was_refused_shortens_no_pause():
    members = membership()
    members.learn("c", ["/x"], 0.0)
    due(members, 100.0)
    members.connected("c", 100.0)
    members.disconnected("c", 100.3, penalty_s=60.0)
    members.not_dialed("c", 100.4)
    assert members.next_due() >= 160


def test_after_a_restart_of_the_overlay_everybody_is_dialled_at_once():
    members = membership()
    for peer in ("a", "c"):
        members.learn(peer, ["/x"], 0.0)
        members.connected(peer, 0.0)
        members.disconnected(peer, 50.0)
    members.overlay_restarted(50.0)
    assert due(members, 50.0) == ["a", "c"]


def test_who_is_blocked_is_not_dialled_and_is_at_once_when_he_is_not_any_more():
    members, blocked = membership(), {"c"}
    members.admits = lambda peer: peer not in blocked
    members.learn("c", ["/x"], 0.0)
    assert (due(members, 1000.0), members.next_due()) == ([], None)
    blocked.clear()
    members.admit_again(["c", "unknown"], 1000.0)
    assert due(members, 1000.0) == ["c"]


def test_without_room_only_static_peers_are_dialled_and_nobody_is_waited_for():
    members = membership()
    members.room = lambda: 2
    for peer in ("c", "d", "e"):
        members.learn(peer, ["/x"], 0.0)
    assert due(members, 0.0) == ["c", "d"]
    assert (due(members, 1.0), members.next_due()) == ([], None)
    members.learn("f", ["/x"], 1.0, static=True)
    assert due(members, 1.0) == ["f"]
    members.failed("c", 2.0)
    members.room = lambda: 5
    assert due(members, 2.0) == ["e"]
