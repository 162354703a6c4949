"""Callers that come, wait and go at random: exactly one event a call, never too many at once, counters back at 0."""

import asyncio
import random
from collections import Counter

import pytest

from mesh.experts.calls import AttemptFailed, Call, Emit
from tests.kit.hosting import call, hosting

CONCURRENCY, QUEUE, CALLS = 3, 5, 120


@pytest.mark.looptime
@pytest.mark.parametrize("seed", range(25))
async def test_every_call_leaves_exactly_one_served(seed: int):
    chance = random.Random(seed)

    async def moody(_call: Call, emit: Emit) -> str:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(chance.choice([0, 0.01, 0.3]))
            await emit("x")
        match chance.randrange(6):
            case 0:
                raise RuntimeError("a bad day")
            case 1:
                raise AttemptFailed("invalid", "not that")
            case 2:
                try:
                    await asyncio.sleep(1)
                finally:
                    await asyncio.sleep(chance.choice([0, 0.1, 0.5]))
        return "done"

    async def caller(host, number: int) -> str:
        await asyncio.sleep(chance.random() * 3)
        asking = asyncio.create_task(
            host.ask(call(request=f"r{number}", timeout_ms=chance.choice([0, 50, 500, 60_000])))
        )
        if chance.random() < 0.4:
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.2, 1.0]))
            asking.cancel()
        await asyncio.wait({asking})
        if asking.cancelled():
            return "cancelled"
        return "answered" if asking.exception() is None else asking.exception().kind

    async with hosting(moody, concurrency=CONCURRENCY, queue=QUEUE) as host:
        outcomes = await asyncio.gather(*(caller(host, number) for number in range(CALLS)))
        await asyncio.sleep(10)
        assert (host.experts.in_flight, host.experts.queued, host.backend.running) == (0, 0, 0)
        assert host.backend.most_running <= CONCURRENCY

    counted = Counter(served.request for served in host.served)
    # A task that is cancelled before its first step has asked nothing.
    never_asked = {f"r{number}" for number, outcome in enumerate(outcomes) if outcome == "cancelled"} - counted.keys()
    assert set(counted.values()) == {1}
    assert counted.keys() | never_asked == {f"r{number}" for number in range(CALLS)}
    told = {served.request: served.outcome for served in host.served}
    for number, outcome in enumerate(outcomes):
        recorded = told.get(f"r{number}", "cancelled")
        expected = outcome if outcome in ("answered", "cancelled", "overloaded", "expired") else "failed"
        # Cancelled while the event of its outcome was being stored: the outcome stands.
        assert recorded == expected or outcome == "cancelled"
    assert len(set(told.values())) >= 4
