"""One deadline for the whole request: every hop and every queue gets what is left of it. In virtual time."""

import asyncio

import pytest

from mesh.config import RoutingConfig
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.local_expert import LocalExpert
from tests.kit.asking import Asker, fails, says
from tests.kit.whole_nodes import Told, expert

pytestmark = pytest.mark.looptime


async def nothing(_piece: str) -> None: ...


def call(timeout_ms: int) -> Call:
    return Call(request="r", expert="own", domain="language", content="x", timeout_ms=timeout_ms)


async def test_each_attempt_gets_what_the_ones_before_it_left() -> None:
    node = await Asker(config=RoutingConfig(policy="round_robin")).open()
    first = node.offer(node.connect(2), "a", fails("unavailable", after_s=0.4))
    second = node.offer(node.connect(3), "a", says("done", 0.1))
    first.work, second.work = (fails("unavailable", after_s=0.4), fails("unavailable", after_s=0.4))
    third = node.offer(node.connect(4), "a", fails("unavailable", after_s=0.4))
    with pytest.raises(Exception, match="as told"):
        await node.requests.ask({"content": "x", "domain": "language", "timeout_s": 2})
    given = sorted(one.asked[0].timeout_ms for one in (first, second, third))
    assert given == pytest.approx([1200, 1600, 2000], abs=2)


async def test_the_time_in_the_queue_of_an_expert_is_off_the_deadline_that_its_backend_gets() -> None:
    seen: list[int] = []

    async def work(asked: Call, emit: Emit) -> str:
        seen.append(asked.timeout_ms)
        await asyncio.sleep(0.3)
        return "done"

    own = LocalExpert(expert("own", concurrency=1), Told(work), 1)
    await own.start()
    answers = await asyncio.gather(*(own.work(call(1000), nothing, lambda: None) for _ in range(3)))
    assert all(isinstance(answer, Answer) for answer in answers)
    assert seen == pytest.approx([1000, 700, 400], abs=2)
    await own.stop()


async def test_who_waits_longer_than_the_deadline_never_reaches_the_backend() -> None:
    asked: list[Call] = []

    async def work(one: Call, emit: Emit) -> str:
        asked.append(one)
        await asyncio.sleep(5)
        return "done"

    own = LocalExpert(expert("own", concurrency=1), Told(work), 1)
    await own.start()
    running = asyncio.create_task(own.work(call(10_000), nothing, lambda: None))
    await asyncio.sleep(0.1)
    with pytest.raises(AttemptFailed) as failure:
        await own.work(call(500), nothing, lambda: None)
    assert failure.value.kind in ("expired", "overloaded")
    await running
    assert len(asked) == 1
    await own.stop()
