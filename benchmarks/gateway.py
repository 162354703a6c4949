"""What the gateway adds to an expert that does nothing, and how soon the first piece of a stream is at the client.

``mesh up`` and the same expert behind bare starlette and uvicorn, asked in turns over one kept connection each. The
gateway's answer is routed and signed, and every event of it is stored before it is given. The stream comes from a
second node; what is timed is from the expert's hand to the client's.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from benchmarks.chat_client import ChatClient
from benchmarks.measure import Measure, above, at_most_more, beside, percentile
from benchmarks.nodes import WITHIN_S, expert, running, until_offered
from benchmarks.peer_requests import child, line_of
from mesh.demo.nodes import NodeProcess, until

WARM_UP = 200
REQUESTS = 1000
STREAMS = 100
EXPERTS = (expert("null", "answer"), expert("timed", "timed_pieces"))


async def run() -> list[Measure]:
    """Measure; about half a minute."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        async with bare() as baseline, running(Path(directory), "near", *EXPERTS) as near:
            overhead = await asyncio.to_thread(whole_answers, (await near.status()).gateway_url, baseline)
            async with running(Path(directory), "far", peers=[near]) as far:
                await until_offered(far, near, experts=len(EXPERTS))
                await until(partial(lists, await url_of(far), "timed"), within=WITHIN_S, what="it is no model there")
                return [*overhead, *await asyncio.to_thread(first_pieces, await url_of(far), baseline)]


@asynccontextmanager
async def bare() -> AsyncIterator[str]:
    """The URL of the baseline."""
    async with child("benchmarks.bare_starlette") as process:
        yield str((await line_of(process))["url"])


async def url_of(node: NodeProcess) -> str:
    return (await node.status()).gateway_url


async def lists(url: str, model: str) -> bool:
    """Whether the gateway knows the model now."""

    def models() -> str:
        with urlopen(f"{url}/v1/models", timeout=WITHIN_S) as answer:
            return str(answer.read().decode())

    return f'"{model}"' in await asyncio.to_thread(models)


def whole_answers(ours: str, theirs: str) -> list[Measure]:
    """Milliseconds of whole answers of either, alternating, so that both see the same machine."""
    with closing(ChatClient(ours, "null")) as gateway, closing(ChatClient(theirs, "null")) as starlette:
        for number in range(WARM_UP):
            gateway.ask(f"warm up {number}")
            starlette.ask(f"warm up {number}")
        took = [(gateway.ask(f"question {n}"), starlette.ask(f"question {n}")) for n in range(REQUESTS)]
    mine, bare_ms = zip(*took, strict=True)
    name = "chat completion of a null expert through the gateway"
    return [
        at_most_more(
            f"{name}, p50",
            percentile(mine, 50),
            "ms",
            baseline=f"the expert behind starlette, {percentile(bare_ms, 50):.2f} ms",
            against=percentile(bare_ms, 50),
            more=1.5,
        ),
        _beside_starlette(f"{name}, p99", percentile(mine, 99), percentile(bare_ms, 99)),
    ]


def first_pieces(ours: str, theirs: str) -> list[Measure]:
    """How old the first piece was when it was here, and whether the second was made only then."""
    mine: list[float] = []
    bare_ms: list[float] = []
    at_once = 0
    with closing(ChatClient(ours, "timed")) as gateway, closing(ChatClient(theirs, "timed")) as starlette:
        for number in range(STREAMS):
            ages, held = first_of(gateway.pieces(f"stream {number}"))
            mine.append(ages)
            at_once += not held
            bare_ms.append(first_of(starlette.pieces(f"stream {number}"))[0])
    name = "first piece of a stream through two nodes"
    return [
        _beside_starlette(f"{name}, p50", percentile(mine, 50), percentile(bare_ms, 50)),
        _beside_starlette(f"{name}, p99", percentile(mine, 99), percentile(bare_ms, 99)),
        above("first pieces that came before the second was made", 100 * at_once / STREAMS, "%", limit=100),
    ]


def first_of(pieces: Sequence[tuple[str, int]]) -> tuple[float, bool]:
    """The age of the first piece in ms when it came, and whether the second had been made by then.

    A piece is the time at which it was made; two that came as one are two times.
    """
    first, came = pieces[0]
    times = [int(made) for piece, _ in pieces for made in piece.split()]
    return (came - int(first.split()[0])) / 1e6, came > times[1]


def _beside_starlette(name: str, value: float, against: float) -> Measure:
    return beside(name, value, "ms", baseline=f"the expert behind starlette, {against:.2f} ms", against=against)
