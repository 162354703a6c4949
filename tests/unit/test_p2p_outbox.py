import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p.frames import Decoder, Kind, encode
from mesh.p2p.messages import MAX_CREDIT
from mesh.p2p.outbox import Lane, Outbox

KIB = 1024
BIG = 1 << 40


def written(outbox: Outbox, budget: int = BIG):
    return Decoder(1 << 20).feed(b"".join(outbox.take(budget)))


def test_small_frames_go_out_in_order_and_ahead_of_bodies():
    outbox, lane = Outbox(64 * KIB), Lane(1, BIG)
    outbox.add(lane, Kind.BODY, b"body")
    outbox.put(encode(Kind.PING, 1, bytes(8)))
    outbox.put(encode(Kind.CANCEL, 9))
    assert [f.kind for f in written(outbox)] == [Kind.PING, Kind.CANCEL, Kind.BODY]
    assert not outbox
    assert lane.empty


def test_bodies_take_turns_frame_by_frame():
    outbox = Outbox(10)
    for call, size in ((1, 35), (2, 15), (3, 5)):
        outbox.add(Lane(call, BIG), Kind.BODY, bytes(size))
    assert [(f.call, len(f.body)) for f in written(outbox)] == [
        (1, 10), (2, 10), (3, 5), (1, 10), (2, 5), (1, 10), (1, 5)
    ]  # fmt: skip


def test_a_huge_body_never_keeps_a_small_call_waiting_for_more_than_one_write():
    outbox, huge = Outbox(64 * KIB), Lane(1, BIG)
    outbox.add(huge, Kind.BODY, memoryview(bytes(64 * KIB * KIB)))
    sent = 0
    for call in range(2, 200):
        outbox.put(encode(Kind.REQUEST, call, b"small"))
        frames = written(outbox, 128 * KIB)
        assert frames[0] == (Kind.REQUEST, call, b"small")
        sent += sum(len(f.body) for f in frames[1:])
        assert 0 < sum(len(f.body) for f in frames[1:]) <= 192 * KIB
    assert sent + huge.queued == 64 * KIB * KIB


def test_small_frames_without_end_leave_each_body_its_turns():
    outbox = Outbox(KIB)
    for call in (1, 2):
        outbox.add(Lane(call, BIG), Kind.BODY, bytes(3 * KIB))
    turns = []
    for _ in range(8):
        outbox.put(encode(Kind.REQUEST, 9, bytes(64 * KIB)))
        turns.append([f.call for f in written(outbox, 16 * KIB)])
    assert turns == [[9, 1], [9, 2], [9, 1], [9, 2], [9, 1], [9, 2], [9], [9]]
    assert Outbox(KIB).take(0) == []


def test_between_a_small_frame_and_the_one_before_there_is_at_most_one_write_of_bodies():
    """Whatever the number of calls with bodies: they share the write, each a frame of it."""
    outbox, calls = Outbox(4 * KIB), 50
    for call in range(1, calls + 1):
        outbox.add(Lane(call, 64 * KIB), Kind.BODY, memoryview(bytes(KIB * KIB)))
    served = dict.fromkeys(range(1, calls + 1), 0)
    for number in range(100):
        outbox.put(encode(Kind.REQUEST, 1000 + number, b"small"))
        frames = written(outbox, 128 * KIB)
        assert frames[0].call == 1000 + number
        assert sum(len(f.body) for f in frames[1:]) <= 132 * KIB
        for frame in frames[1:]:
            served[frame.call] += len(frame.body)
        if all(served.values()):
            assert max(served.values()) - min(served.values()) <= 4 * KIB
    assert set(served.values()) == {64 * KIB}  # and none beyond its credit


def test_nothing_is_written_without_credit_and_credit_brings_it_on():
    outbox, lane = Outbox(100), Lane(1, 150)
    outbox.add(lane, Kind.CHUNK, bytes(400))
    assert [len(f.body) for f in written(outbox)] == [100, 50]
    assert not outbox
    assert lane.queued == 250
    outbox.grant(lane, 70)
    assert [len(f.body) for f in written(outbox)] == [70]
    outbox.grant(lane, 1000)
    assert [len(f.body) for f in written(outbox)] == [100, 80]
    assert lane.empty


def test_one_call_without_credit_does_not_block_another():
    outbox, poor, rich = Outbox(100), Lane(1, 0), Lane(2, BIG)
    outbox.add(poor, Kind.CHUNK, bytes(10))
    outbox.add(rich, Kind.CHUNK, bytes(10))
    assert [f.call for f in written(outbox)] == [2]


def test_a_result_does_not_overtake_the_chunks_before_it():
    outbox, lane = Outbox(100), Lane(1, 100)
    outbox.add(lane, Kind.CHUNK, bytes(150))
    outbox.add(lane, None, encode(Kind.RESULT, 1, b"head"))
    outbox.add(lane, Kind.BODY, bytes(20))
    assert [f.kind for f in written(outbox)] == [Kind.CHUNK]
    outbox.grant(lane, 50)
    assert [f.kind for f in written(outbox)] == [Kind.CHUNK, Kind.RESULT]
    outbox.grant(lane, 50)
    assert [f.kind for f in written(outbox)] == [Kind.BODY]


def test_who_waits_is_told_once_all_is_handed_over():
    outbox, lane, told = Outbox(100), Lane(1, 150), []
    outbox.add(lane, Kind.CHUNK, bytes(200))
    lane.when_empty(lambda: told.append("empty"))
    written(outbox)
    assert told == []
    outbox.grant(lane, 50)
    written(outbox)
    written(outbox)
    assert told == ["empty"]


def test_what_was_dropped_is_not_written():
    outbox, lane = Outbox(100), Lane(1, BIG)
    outbox.add(lane, Kind.BODY, bytes(500))
    written(outbox, 1)
    lane.drop()
    assert written(outbox) == []
    assert not outbox


def test_absurd_credit_is_misbehaviour():
    outbox, lane = Outbox(100), Lane(1, 0)
    outbox.grant(lane, MAX_CREDIT)
    with pytest.raises(PeerMisbehaved, match="credit"):
        outbox.grant(lane, 1)
