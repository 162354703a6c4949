"""A node that is measured: ``python -m benchmarks.node_pair server HOME`` serves; ``client HOME SEQUENTIAL USERS EACH``
asks the server that its config names, whole requests and bare calls of 1 KiB, and prints one line of JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.measure import percentile
from mesh import garbage
from mesh.config import load_config
from mesh.home import Home
from mesh.node import Node
from mesh.p2p.calls import InboundCall, Reply

METHOD = "benchmark.echo"
BODY = ("0123456789abcdef" * 64)[:1024]
WARM_UP = 200
WITHIN_S = 60.0

Ask = Callable[[], Awaitable[object]]


async def echo(call: InboundCall) -> Reply:
    return Reply({}, call.body)


async def serve(home: Home) -> None:
    node = Node(home, load_config(home.root))
    await node.start()
    garbage.settle()  # as `mesh up` does
    node.networking.peers.serve(METHOD, echo)
    print(json.dumps({"address": node.networking.overlay.addresses[0], "peer": node.identity.peer_id}), flush=True)
    await node.failed()


async def ask(home: Home, sequential: int, users: int, each: int) -> None:
    node = Node(home, load_config(home.root))
    await node.start()
    try:
        peer = await server_of(node)
        garbage.settle()

        async def call() -> None:
            reply = await node.networking.peers.call(peer, METHOD, {}, BODY.encode(), timeout=30)
            assert reply.body == BODY.encode()

        async def request() -> None:
            outcome = await node.answering.requests.ask({"content": BODY, "domain": "language", "timeout_s": 30})
            assert outcome.peers == (peer,)

        figures = {"call": await figures_of(call, sequential, users, each)}
        figures["request"] = await figures_of(request, sequential, users, max(1, each // 4))
        figures["events"] = {"stored": float(node.journaling.journal.stored_position)}
        print(json.dumps(figures), flush=True)
    finally:
        await node.stop("measured")


async def server_of(node: Node) -> str:
    """The PeerId of the server, once its expert can be asked."""
    offers = node.journaling.routing.offers
    async with asyncio.timeout(WITHIN_S):
        while not (peers := [peer for peer in node.networking.peers.connected() if offers.get(peer)]):
            await asyncio.sleep(0.05)
    return peers[0]


async def figures_of(ask_once: Ask, sequential: int, users: int, each: int) -> dict[str, float]:
    for _ in range(WARM_UP):
        await ask_once()
    one_by_one = [await timed(ask_once) for _ in range(sequential)]
    latencies: list[float] = []

    async def user() -> None:
        for _ in range(each):
            latencies.append(await timed(ask_once))

    started = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(users)))
    took = time.perf_counter() - started
    return {
        "sequential_p50_ms": percentile(one_by_one, 50) * 1000,
        "concurrent_per_s": len(latencies) / took,
        "concurrent_p99_ms": percentile(latencies, 99) * 1000,
    }


async def timed(ask_once: Ask) -> float:
    started = time.perf_counter()
    await ask_once()
    return time.perf_counter() - started


def main(role: str, home: str, *numbers: str) -> None:
    work = serve(Home(Path(home))) if role == "server" else ask(Home(Path(home)), *map(int, numbers))
    try:
        import uvloop

        uvloop.run(work)
    except ImportError:
        asyncio.run(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
