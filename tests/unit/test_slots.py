"""Slots: never more than there are, first come first served, and exact under cancellation."""

import asyncio

import pytest

from mesh.experts.calls import AttemptFailed
from mesh.experts.slots import Slots

pytestmark = pytest.mark.looptime


async def waiting(slots: Slots, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(slots.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_freed_slot_goes_to_whoever_waits_longest():
    slots = Slots("it", 1, 2)
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
    slots = Slots("it", 2, 1)
    await slots.acquire()
    await slots.acquire()
    (queued,) = await waiting(slots, 1)
    with pytest.raises(AttemptFailed, match="it runs 2 of 2 and 1 wait in a queue of 1") as caught:
        await slots.acquire()
    assert caught.value.kind == "overloaded"
    slots.release()
    await queued


async def test_without_a_queue_the_second_call_is_refused():
    slots = Slots("it", 1, 0)
    await slots.acquire()
    with pytest.raises(AttemptFailed):
        await slots.acquire()


async def test_who_gives_up_waiting_leaves_the_queue():
    slots = Slots("it", 1, 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    first.cancel()
    await asyncio.wait({first})
    assert slots.queued == 1
    slots.release()
    await second
    assert slots.in_flight == 1


async def test_a_slot_given_to_somebody_who_is_cancelled_in_that_moment_is_passed_on():
    slots = Slots("it", 1, 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    slots.release()
    first.cancel()
    await asyncio.wait({first, second})
    assert first.cancelled()
    assert second.exception() is None
    assert slots.in_flight == 1


async def test_a_release_between_cancellation_and_leaving_skips_the_cancelled():
    slots = Slots("it", 1, 2)
    await slots.acquire()
    first, second = await waiting(slots, 2)
    first.cancel()
    slots.release()
    await asyncio.wait({first, second})
    assert second.exception() is None
    assert (slots.in_flight, slots.queued) == (1, 0)


async def test_who_waits_can_be_refused():
    slots = Slots("it", 1, 2)
    await slots.acquire()
    tasks = await waiting(slots, 2)
    slots.refuse_waiting(AttemptFailed("unavailable", "gone"))
    await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), AttemptFailed) for task in tasks)
    slots.release()
    assert (slots.in_flight, slots.queued) == (0, 0)
