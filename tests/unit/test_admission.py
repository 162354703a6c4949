"""What an expert lets in: callers by turns, no more than its backend takes, and nobody who would wait in vain."""

import asyncio

import pytest

from mesh.events.vocabulary.experts import ExpertLimited, ExpertOffered
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from tests.kit.hosting import CALLER, Host, call, hosting, nowhere, takes

pytestmark = pytest.mark.looptime
FLOOD = CALLER[:-1] + "x"


def ask(host: Host, number: int, caller: str, *, own: str = "", timeout_ms: int = 60_000) -> "asyncio.Task[Answer]":
    asked = Call(
        request=f"{caller[-1]}{own}{number}",
        expert="it",
        domain="language",
        content="hi",
        timeout_ms=timeout_ms,
        caller=own,
    )
    return asyncio.create_task(host.experts.ask(asked, nowhere, caller=caller))


async def test_a_peer_that_floods_does_not_starve_another() -> None:
    async with hosting(takes(1.0), concurrency=1, queue=100) as host:
        flood = [ask(host, number, FLOOD, timeout_ms=600_000) for number in range(50)]
        await asyncio.sleep(0.5)
        others = [ask(host, number, CALLER) for number in range(3)]
        await asyncio.gather(*others)
        assert len([task for task in flood if task.done()]) <= 5
        await asyncio.gather(*flood)


async def test_callers_of_one_node_take_turns_as_well() -> None:
    async with hosting(takes(1.0), concurrency=1, queue=100) as host:
        flood = [ask(host, number, CALLER, own="key-1", timeout_ms=600_000) for number in range(30)]
        await asyncio.sleep(0.5)
        await asyncio.gather(*(ask(host, number, CALLER, own="key-2") for number in range(3)))
        assert len([task for task in flood if task.done()]) <= 5
        await asyncio.gather(*flood)


async def test_who_cannot_be_served_in_time_is_refused_at_once_and_recorded() -> None:
    async with hosting(takes(1.0), concurrency=1, queue=100) as host:
        await asyncio.gather(*(ask(host, number, CALLER) for number in range(8)))
        waiting = [ask(host, number, CALLER) for number in range(10, 20)]
        await asyncio.sleep(0)
        with pytest.raises(AttemptFailed, match="the wait is about") as refused:
            await host.ask(call(request="late", timeout_ms=3000))
        assert (refused.value.kind, refused.value.retry_after_s) == ("overloaded", pytest.approx(10, abs=1.5))
        assert host.served[-1].request == "late"
        assert (host.served[-1].outcome, host.served[-1].latency_ms) == ("overloaded", 0)
        await asyncio.gather(*waiting)


async def test_a_backend_that_slows_down_gets_less_at_once_and_its_offer_says_so() -> None:
    running = 0

    async def shares(call: Call, emit: Emit) -> str:
        """Two at once are no effort; each one more makes all slower."""
        nonlocal running
        running += 1
        await asyncio.sleep(0.2 * max(1.0, (running / 2) ** 2))
        running -= 1
        return "done"

    async with hosting(shares, concurrency=16, queue=1000) as host:
        for number in range(16):
            await ask(host, number, CALLER)
        await asyncio.gather(*(ask(host, number, CALLER, timeout_ms=3_000_000) for number in range(10, 400)))
        assert host.experts.offers()[0].concurrency < 8
        await asyncio.sleep(11)
        (limited,) = [fact for fact in host.facts if isinstance(fact, ExpertLimited)][-1:]
        assert (limited.concurrency, limited.limit) == (16, host.experts.offers()[0].concurrency)
        assert limited.baseline_ms == pytest.approx(200, rel=0.01)


async def test_a_node_records_the_load_of_its_own_experts_when_it_changes() -> None:
    async with hosting(takes(25.0), concurrency=1, queue=10) as host:
        tasks = [ask(host, number, CALLER) for number in range(2)]
        await asyncio.sleep(95)
        await asyncio.gather(*tasks)
        offers = [fact for fact in host.facts if isinstance(fact, ExpertOffered)]
        assert [(offer.in_flight, offer.queued) for offer in offers] == [(1, 1), (1, 0), (0, 0)]
