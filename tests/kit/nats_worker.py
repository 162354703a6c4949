"""A NATS service that is an expert, in the test's own process: what it is asked is what it does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.micro import add_service
from nats.micro.request import Request

from mesh.events.broker_embedded import EmbeddedBroker

MORE = {"Mesh-More": "1"}


class Seen:
    """What was asked and what was taken back, over all workers of the process."""

    def __init__(self) -> None:
        self.calls: list[dict] = []
        self.headers: list[dict] = []
        self.cancelled: list[str] = []


@asynccontextmanager
async def worker(
    broker: EmbeddedBroker, name: str = "kit", seen: Seen | None = None, **metadata: str
) -> AsyncIterator[str]:
    """A service on the broker, as long as the block lasts; the subject that it answers on."""
    seen = seen or Seen()
    address = broker.address("worker")
    client = await nats.connect(address.url, **address.options())

    async def taken_back(message) -> None:
        seen.cancelled.append(message.subject)

    async def answer(request: Request) -> None:
        seen.calls.append(json.loads(request.data))
        seen.headers.append(dict(request.headers or {}))
        await _answer(request, seen.calls[-1]["content"])

    try:
        await client.subscribe("mesh.cancel.*", cb=taken_back)
        given = {"mesh.domains": "language, poetry", **{f"mesh.{key}": value for key, value in metadata.items()}}
        service = await add_service(client, name=name, version="1.0.0", metadata=given)
        await service.add_endpoint(name="answer", subject=f"{name}.answer", handler=answer)
        await client.flush()
        yield f"{name}.answer"
    finally:
        await client.close()


async def _answer(request: Request, content: str) -> None:
    if content == "too long":
        await request.respond_error("400", "the text is too long for this worker")
    elif content == "junk":
        await request.respond(b"\xff\xfe")
    elif content == "flood":
        for _ in range(30):
            await request.respond(b"x" * (1 << 20), headers=MORE)
    else:
        for character in "hello":
            await request.respond(character.encode(), headers=MORE)
            await asyncio.sleep(0)
        if content != "forever":
            await request.respond(b"", headers={"Mesh-Model": "kit 2", "Mesh-Tokens-Out": "5"})
