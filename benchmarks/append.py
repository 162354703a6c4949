"""What it costs to have an event stored, in both durabilities, against nats-py on the same server."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

import nats

from benchmarks.measure import Measure, at_least, timed, watched
from mesh.clock import SystemClock
from mesh.config import BrokerConfig
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.journal import Journal
from mesh.events.reader_nats import NatsEventReader
from mesh.events.store_nats import NatsEventStore
from mesh.events.vocabulary.requests import RequestAnswered
from mesh.home import Home
from mesh.identity import Identity

ROUNDS = 5
EVENTS = 20_000
AWAITED = 1_500
SYNCED = 400
BURST = 200
SUBJECT = "bench.x"

Durability = Literal["process", "power"]
Publish = Callable[[bytes], Awaitable[Any]]


def run() -> Iterator[Measure]:
    """Rounds of baseline and journal in turn, so that a busy machine is as hard on one as on the other."""
    process = _on_uvloop(_measure("process"))
    yield at_least(
        "acked append",
        process["journal"],
        "events/s",
        baseline="nats-py core publish, no ack",
        against=process["core"],
        times=0.25,
    )
    yield at_least(
        "acked append, against awaiting each",
        process["journal"],
        "events/s",
        baseline="awaited js.publish",
        against=process["awaited"],
        times=8,
    )
    yield watched("bulk read", process["read"], "events/s")
    power = _on_uvloop(_measure("power"))
    yield at_least(
        "power-safe append",
        power["journal"],
        "events/s",
        baseline="awaited js.publish, sync always",
        against=power["awaited"],
        times=5,
    )


def _on_uvloop(measuring: Any) -> dict[str, float]:
    import uvloop

    return uvloop.run(measuring)


async def _measure(durability: Durability) -> dict[str, float]:
    rates: dict[str, list[float]] = {"core": [], "awaited": [], "journal": [], "read": []}
    with tempfile.TemporaryDirectory() as directory:
        async with _running(Path(directory), durability) as broker:
            journal = await _journal(broker, durability)
            address = broker.address("node")
            client = await nats.connect(address.url, **address.options())
            stream = client.jetstream()
            await stream.add_stream(name="BENCH", subjects=[SUBJECT], storage="file")
            payload = bytes(_payload_bytes(journal))
            awaited = SYNCED if durability == "power" else AWAITED
            for _ in range(ROUNDS):
                rates["core"].append(await _publishing(EVENTS, lambda: client.publish("core.x", payload), client.flush))
                rates["awaited"].append(
                    await _publishing(awaited, lambda: stream.publish(SUBJECT, payload), client.flush)
                )
                rates["journal"].append(await _emitting(journal))
            rates["read"].append(await _reading(NatsEventReader(address)))
            await client.close()
            await journal.close()
    return {name: median(values) for name, values in rates.items()}


@asynccontextmanager
async def _running(home: Path, durability: Durability):
    broker = EmbeddedBroker(
        Home(home), BrokerConfig(durability=durability), on_restart=lambda *_: None, clock=SystemClock()
    )
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def _journal(broker: EmbeddedBroker, durability: Durability) -> Journal:
    owner = Identity.generate().peer_id
    journal = Journal(owner, NatsEventStore(broker.address("node"), owner, durability=durability), SystemClock())
    await journal.open()
    return journal


def _fact(number: int) -> RequestAnswered:
    return RequestAnswered(
        request="0199a1b2-0000-7000-8000-000000000000",
        attempt=1,
        peer="12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        expert="mathematics",
        model="sympy",
        latency_ms=12.5 + number % 100,
        first_token_ms=3.25,
        tokens_in=41,
        tokens_out=97,
        answer_bytes=512,
        answer_digest="a" * 64,
        signature="b" * 128,
    )


def _payload_bytes(journal: Journal) -> bytes:
    from mesh.events.codec import encode

    return encode(journal.emit(_fact(0)).event).payload


async def _publishing(count: int, publish: Callable[[], Awaitable[Any]], flush: Callable[[], Awaitable[Any]]) -> float:
    with timed() as took:
        for _ in range(count):
            await publish()
        await flush()
    return count / took.seconds


async def _emitting(journal: Journal) -> float:
    facts = [_fact(number) for number in range(BURST)]
    with timed() as took:
        for _ in range(EVENTS // BURST):
            for fact in facts:
                journal.emit(fact, subject=fact.request, correlation=fact.request)
            await asyncio.sleep(0)
        await journal.stored()
    return EVENTS / took.seconds


async def _reading(reader: NatsEventReader) -> float:
    count = 0
    with timed() as took:
        async for batch in reader.read():
            count += len(batch)
    return count / took.seconds
