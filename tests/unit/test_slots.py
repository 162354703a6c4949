"""Slots: never more than there are, callers by turns, and exact under cancellation."""

import asyncio

import pytest

from mesh.experts.calls import AttemptFailed
from mesh.experts.limit import Limit
from mesh.experts.slots import Slots

pytestmark = pytest.mark.looptime


async def waiting(slots: Slots, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(slots.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_freed_slot_goes_to_whoever_waits_longest():
    slots = Slots("it", Limit(1, 1), 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    slots.release()
    await asyncio.sleep(0)
    assert first.done()
    assert not second.done()
    assert (slots.in_flight, slots.queued) == (1, 1)
    slots.release()
    await second
    slots.release()
    assert (slots.in_flight, slots.queued) == (0, 0)


async def test_a_full_queue_refuses_at_once_and_names_its_limit():
    slots = Slots("it", Limit(2, 2), 1)
    await slots.acquire()
    await slots.acquire()
    (queued,) = await waiting(slots, 1)
    with pytest.raises(AttemptFailed, match="it runs 2 of 2 and 1 wait in a queue of 1") as caught:
        await slots.acquire()
    assert caught.value.kind == "overloaded"
    slots.release()
    await queued


async def test_without_a_queue_the_second_call_is_refused():
    slots = Slots("it", Limit(1, 1), 0)
    await slots.acquire()
    with pytest.raises(AttemptFailed):
        await slots.acquire()


async def test_who_gives_up_waiting_leaves_the_queue():
    slots = Slots("it", Limit(1, 1), 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    first.cancel()
    await asyncio.wait({first})
    assert slots.queued == 1
    slots.release()
    await second
    assert slots.in_flight == 1


async def test_a_slot_given_to_somebody_who_is_cancelled_in_that_moment_is_passed_on():
    slots = Slots("it", Limit(1, 1), 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    slots.release()
    first.cancel()
    await asyncio.wait({first, second})
    assert first.cancelled()
    assert second.exception() is None
    assert slots.in_flight == 1


async def test_a_release_between_cancellation_and_leaving_skips_the_cancelled():
    slots = Slots("it", Limit(1, 1), 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    first.cancel()
    slots.release()
    await asyncio.wait({first, second})
    assert second.exception() is None
    assert (slots.in_flight, slots.queued) == (1, 0)


async def test_who_waits_can_be_refused():
    slots = Slots("it", Limit(1, 1), 2)
    await slots.acquire()
    tasks = await waiting(slots, 2)
    slots.refuse_waiting(AttemptFailed("unavailable", "gone"))
    await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), AttemptFailed) for task in tasks)
    slots.release()
    assert (slots.in_flight, slots.queued) == (0, 0)


async def ask(slots: Slots, caller: str, served: list[str], seconds: float, **more: float) -> None:
    await slots.acquire(caller, **more)
    served.append(caller)
    try:
        await asyncio.sleep(seconds)
    finally:
        slots.release(caller, work_s=seconds)


async def test_a_caller_that_floods_waits_behind_itself_and_not_before_others():
    slots, served = Slots("it", Limit(1, 1), 100), []
    flood = [asyncio.create_task(ask(slots, "flood", served, 1)) for _ in range(50)]
    await asyncio.sleep(0.5)
    others = [asyncio.create_task(ask(slots, name, served, 1)) for name in ("a", "b", "a", "b")]
    await asyncio.gather(*flood, *others)
    assert served.index("a") <= 3
    assert served.index("b") <= 3
    assert [served[:10].count(name) for name in ("a", "b")] == [2, 2]


async def test_callers_share_the_time_and_not_the_number_of_calls():
    slots, served = Slots("it", Limit(1, 1), 1000), []
    long = [asyncio.create_task(ask(slots, "long", served, 10)) for _ in range(20)]
    short = [asyncio.create_task(ask(slots, "short", served, 1)) for _ in range(200)]
    await asyncio.sleep(100)
    assert served.count("long") == pytest.approx(5, abs=1)
    assert served.count("short") == pytest.approx(50, abs=10)
    for task in (*long, *short):
        task.cancel()
    await asyncio.wait((*long, *short))
    assert (slots.in_flight, slots.queued) == (0, 0)


async def test_a_full_queue_gives_the_place_of_whoever_has_most_to_whoever_has_less():
    slots, served = Slots("it", Limit(1, 1), 4), []
    flood = [asyncio.create_task(ask(slots, "flood", served, 1)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.gather(ask(slots, "other", served, 1))
    with pytest.raises(AttemptFailed, match="another caller, with fewer calls waiting") as shed:
        await flood[-1]
    assert shed.value.retry_after_s > 0
    await asyncio.gather(*flood[:-1])
    assert served.count("flood") == 4


async def test_the_flood_itself_has_no_room_in_a_full_queue():
    slots = Slots("it", Limit(1, 1), 2)
    await slots.acquire("flood")
    waits = [asyncio.create_task(slots.acquire("flood")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(AttemptFailed, match="2 wait in a queue of 2"):
        await slots.acquire("flood")
    slots.refuse_waiting(AttemptFailed("unavailable", "gone"))
    await asyncio.wait(waits)


async def test_what_cannot_begin_before_its_deadline_is_refused_at_once_with_a_hint():
    slots, served = Slots("it", Limit(1, 1), 100), []
    for _ in range(8):
        await ask(slots, "a", served, 2)
        slots.limit.finished(2000, 1)
    waits = [asyncio.create_task(ask(slots, "a", served, 2)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(AttemptFailed, match=r"the wait is about 10.0 s, and 5.0 s are left") as refused:
        await slots.acquire("a", time_left_s=5)
    assert refused.value.retry_after_s == pytest.approx(10, abs=1)
    await asyncio.gather(*waits, ask(slots, "b", served, 2, time_left_s=5))


async def test_a_limit_that_falls_takes_no_slot_away_and_one_that_rises_lets_more_in():
    slots = Slots("it", Limit(1, 4), 10)
    for _ in range(4):
        await slots.acquire("a")
    for _ in range(8):
        slots.limit.finished(100, 4, congested=True)
    assert slots.limit.now == 3
    later = [asyncio.create_task(slots.acquire("a")) for _ in range(3)]
    await asyncio.sleep(0)
    slots.release("a")
    await asyncio.sleep(0)
    assert (slots.in_flight, slots.queued) == (3, 3)
    for _ in range(8):
        slots.limit.finished(10, 4)
    assert slots.limit.now == 4
    slots.release("a")
    await asyncio.sleep(0)
    assert (slots.in_flight, slots.queued) == (4, 1)
    for task in later:
        task.cancel()
    await asyncio.gather(*later, return_exceptions=True)
