"""What a request leaves in the journal, as a person reads it. `pytest --refresh-golden` writes the files anew."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from mesh.events.envelope import Event
from mesh.experts.queries import QueryFailed, QueryRejected
from tests.kit.asking import Asker, fails, hangs, says, streams

pytestmark = pytest.mark.looptime
HERE = Path(__file__).parent / "requests"


async def failover() -> Asker:
    node = await Asker().open()
    for number, work in ((2, fails("unavailable", "its engine is down", after_s=0.25)), (3, says("42", after_s=1.5))):
        node.offer(node.connect(number), "calc", work, domains=("mathematics",), quality=(3 - number) + 0.0)
    await node.requests.ask({"content": "6 * 7 =", "caller": "test"})
    return node


async def consensus() -> Asker:
    node = await Asker().open()
    for number, work in ((2, says("42", 0.1)), (3, says("41", 0.2)), (4, says("42.0", 0.3)), (5, hangs())):
        node.offer(node.connect(number), "calc", work, domains=("mathematics",))
    query = {"content": "6 * 7 =", "strategy": "consensus", "fan_out": 4, "quorum": 2, "policy": "round_robin"}
    await node.requests.ask(query)
    return node


async def split() -> Asker:
    node = await Asker().open()
    node.offer(node.connect(2), "calc", says("42", 0.1), domains=("mathematics",))
    node.offer(node.connect(3), "poet", fails("unavailable", "its engine is down", after_s=0.2))
    query = {"content": "Be brief.\n1. 6 * 7 =\n2. Write a poem", "strategy": "distributed"}
    await node.requests.ask(query)
    return node


async def wrong_guess() -> Asker:
    node = await Asker().open()
    refusal = "'wisdom' is not a known function"
    node.offer(node.connect(2), "calc", fails("invalid", refusal, after_s=0.1), domains=("mathematics",))
    node.offer(node.connect(3), "poet", says("42", after_s=0.2))
    await node.requests.ask({"content": "What is the sum of all wisdom?"})
    return node


async def broken_stream() -> Asker:
    node = await Asker().open()
    node.offer(node.connect(2), "poet", streams("Roses are ", then=fails("disconnected", "reset")))

    async def emit(_piece: str) -> None: ...

    with pytest.raises(QueryFailed):
        await node.requests.ask({"content": "a poem", "domain": "language"}, emit)
    return node


async def rejected_and_cancelled() -> Asker:
    node = await Asker().open()
    node.serve("own", hangs())
    with pytest.raises(QueryRejected):
        await node.requests.ask({"content": ""})
    asking = asyncio.create_task(node.requests.ask({"content": "hi", "domain": "language"}))
    await asyncio.sleep(2)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return node


STORIES: tuple[Callable[[], Awaitable[Asker]], ...] = (
    failover,
    consensus,
    split,
    wrong_guess,
    broken_stream,
    rejected_and_cancelled,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_transcript(story: Callable[[], Awaitable[Asker]], refresh_golden: bool) -> None:
    node = await story()
    text = transcript([event for event in await node.events() if event.correlation])
    path = HERE / f"{story.__name__}.txt"
    if refresh_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def transcript(events: list[Event]) -> str:
    blocks = []
    for event in events:
        body = json.loads(msgspec.json.encode(event.fact))
        lines = [f"{event.position} {event.time} {event.type}"]
        for name, value in body.items():
            if name in ("inputs", "decision"):
                lines.append(f"    {name}:")
                lines += [f"        {key}: {_shown(part)}" for key, part in value.items()]
            else:
                lines.append(f"    {name}: {_shown(value)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "".join(f"\n            {json.dumps(one, sort_keys=True, ensure_ascii=False)}" for one in value)
    return json.dumps(value, ensure_ascii=False)
