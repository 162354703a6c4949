"""A gateway over real sockets, in front of requests that are answered here and now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.clock import SystemClock
from mesh.config import GatewayConfig
from mesh.experts.calls import Emit
from mesh.experts.known import Offer
from mesh.experts.queries import Outcome, parse_query
from mesh.gateway.models import Catalogue
from mesh.gateway.server import GatewayServer
from mesh.ids import new_id


class Answering:
    """Takes the place of a node's requests: says what it was asked, word by word, and notes what is refused."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.cancelled = 0
        self.hold: asyncio.Event | None = None

    def refuse(self, caller: str, message: str) -> str:
        self.refused.append(message)
        return new_id()

    async def ask(self, query: dict[str, Any], emit: Emit | None = None, *, taken=lambda request: None) -> Outcome:
        self.asked.append(query)
        parsed = parse_query(query)
        request = new_id()
        taken(request)
        try:
            if self.hold is not None:
                await self.hold.wait()
            words = parsed.content.split(" ")
            for place, word in enumerate(words):
                if emit is not None:
                    await emit(word + " " * (place < len(words) - 1))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        text = f"[[1.0, {len(parsed.content)}.0]]" if parsed.task == "embed" else parsed.content
        return Outcome(
            request=request,
            text=text,
            digest="",
            domain=parsed.domain,
            strategy="best_peer",
            policy="weighted",
            peers=("12D3KooWpeer",),
            expert="echo",
            model="echo 1",
            latency_ms=1.0,
            attempts=1,
            agreement=1.0,
        )


def offers(*names: str) -> dict[str, dict[str, Offer]]:
    """What one peer offers."""
    return {
        "12D3KooWpeer": {
            name: Offer(model="echo 1", domains=("language",), concurrency=64, queue_limit=64) for name in names
        }
    }


@asynccontextmanager
async def serving(
    requests: Answering, root: Path, *names: str, **settings: object
) -> AsyncIterator[tuple[GatewayServer, str, int]]:
    """A gateway that listens, with its host and port."""
    known = offers(*(names or ("echo",)))
    server = GatewayServer(
        GatewayConfig(**settings),
        requests,
        lambda: Catalogue(known, {}),
        keys=root / "keys.json",
        memory=root / "port",
        clock=SystemClock(),
    )
    await server.start()
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    try:
        yield server, host, int(port)
    finally:
        await server.stop()
