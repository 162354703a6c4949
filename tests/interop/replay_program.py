"""Run natively and under Pyodide: what the pure core and an embedded mesh make of the same input, to be compared."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from itertools import count
from typing import Any

import msgspec

from mesh.api.failures import RequestFailed
from mesh.embedded import LocalMesh
from mesh.errors import MeshError
from mesh.events import lines
from mesh.events.audit import verify
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.vocabulary.requests import RequestRouted
from mesh.experts.state import RoutingState
from mesh.health.decide import decide
from mesh.health.rules import RULES
from mesh.health.state import HealthState
from mesh.identity import Identity
from mesh.projections.in_memory import digest_of_records

KEY = Identity(bytes(range(32)))


class Still:
    """A clock on which nothing takes any time, so that nothing but the work decides what is recorded."""

    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def main(files: dict[str, str]) -> str:
    return json.dumps(
        {
            "imported": imported(files["modules.txt"].split()),
            "replayed": replayed(lines.read(files["history.jsonl"])),
            "audited": {name: audited(lines.read(text)) for name, text in files.items() if name in JOURNALS},
            "asked": await asked(),
            "example": await example(files["ask.py"]),
        }
    )


JOURNALS = ("journal-1.jsonl", "journal-2.jsonl", "tampered.jsonl")


async def example(program: str) -> dict[str, Any]:
    """What a program tells that is written like this one."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(program, names)
    told: dict[str, Any] = json.loads(await names["main"]({}))
    return told


def imported(names: list[str]) -> dict[str, str]:
    """What each module raises when it is imported; empty where nothing does."""
    found = {}
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            found[name] = str(error)
    return found


def replayed(records: list[Record]) -> dict[str, Any]:
    events = [decode(record) for record in records]
    owner = events[0].origin
    routing, health = RoutingState(owner), HealthState(owner)
    decided = []
    for event in events:
        routing.apply(event)
        health.apply(event)
        now = float(1_763_800_000 + event.position)
        decided.append([msgspec.json.encode(fact).decode() for fact in decide(health, RULES, now)])
    return {
        "tables": digest_of_records(records).tables,
        "routing": routing.digest(),
        "health": health.digest(),
        "decided": decided,
    }


def recomputed(mesh: LocalMesh) -> list[str]:
    """What comes of making each decision in the mesh's journal again."""
    events = [decode(record) for record in mesh.records]
    requests = [event.correlation for event in events if isinstance(event.fact, RequestRouted)]
    return [decision.recomputed for request in requests for decision in mesh.why(request).decisions]


def audited(records: list[Record]) -> list[list[Any]]:
    return [[finding.position, finding.kind] for finding in verify(records, KEY.peer_id).findings]


def embedded() -> LocalMesh:
    ids, seeds = count(1), count(1)
    mesh = LocalMesh(
        identity=KEY,
        clock=Still(),
        make_id=lambda: f"00000000-0000-7000-8000-{next(ids):012d}",
        make_seed=lambda: next(seeds),
    )

    @mesh.expert("loud", domains=["language"])
    def loud(text: str) -> str:
        return text.upper()

    @mesh.expert("backwards", domains=["language"], quality=0.7)
    async def backwards(text: str) -> str:
        await asyncio.sleep(0)
        return text[::-1]

    @mesh.expert("words", domains=["context"])
    def words(text: str) -> Iterator[str]:
        yield from text.split()

    @mesh.expert("letters", domains=["context"])
    async def letters(text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter

    @mesh.expert("broken", domains=["coding"])
    def broken(text: str) -> str:
        raise KeyError(text)

    @mesh.expert("stuck", domains=["reasoning"])
    async def stuck(_text: str) -> str:
        await asyncio.Event().wait()
        return "never"

    return mesh


async def asked() -> dict[str, Any]:
    mesh = embedded()
    pieces: list[str] = []
    async with mesh:
        texts = [(await mesh.ask(f"Mesh {number}", domain="language")).text for number in range(6)]
        told = {
            "texts": texts,
            "streamed": [(await mesh.ask("one two", expert="words", on_text=pieces.append)).text, pieces],
            "spelled": (await mesh.ask("abc", expert="letters")).text,
            "broken": await refusal(mesh.ask("x", domain="coding")),
            "expired": await refusal(mesh.ask("x", domain="reasoning", timeout=0.05)),
            "nobody": await refusal(mesh.ask("x", domain="mathematics")),
            "invalid": await refusal(mesh.ask("x", domain="?")),
            "consensus": await refusal(mesh.ask("x", strategy="consensus")),
            "status": await refusal(mesh.status()),
            "access": await refusal(mesh.access("block", "192.0.2.1", actor="me")),
            "acknowledge": await refusal(mesh.acknowledge("a", actor="me")),
        }
    told["closed"] = await refusal(mesh.ask("x"))
    told["outcomes"] = mesh.sql("SELECT state, count(*) AS requests FROM requests GROUP BY state ORDER BY state")
    told["digest"] = mesh.digest()
    told["journal"] = lines.written(mesh.records)
    told["recomputed"] = recomputed(mesh)
    told["whole"] = mesh.verify().ok
    return told


async def refusal(work: Awaitable[object]) -> list[str]:
    try:
        await work
    except RequestFailed as error:
        return [error.kind, str(error), error.remedy]
    except MeshError as error:
        return ["", str(error), error.remedy]
    return []
