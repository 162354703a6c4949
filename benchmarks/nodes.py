"""Whole nodes as real processes on loopback, otherwise with the settings that a user has who sets nothing."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.config import StorageConfig
from mesh.demo.nodes import NodeProcess, until
from mesh.projections.database import database_url
from mesh.projections.queries import Queries

WITHIN_S = 60.0
_CONFIG = """
[node]
name = "{name}"
mesh = "benchmark"
[overlay]
listen = ["/ip4/127.0.0.1/tcp/0"]
mdns = false
peers = {peers}
[log]
level = "warning"
"""
_EXPERT = """
[[experts]]
name = "{name}"
backend = "python"
domains = ["{domain}"]
concurrency = 256
queue = 1024
options = {{ path = "{of}:{function}" }}
"""


def expert(name: str, function: str, *, domain: str = "language", of: str = "benchmarks.null_expert") -> str:
    """A section of the config: a function of the module ``of`` that serves the domain."""
    return _EXPERT.format(name=name, function=function, domain=domain, of=of)


@asynccontextmanager
async def running(
    root: Path, name: str, *experts: str, peers: Sequence[NodeProcess] = ()
) -> AsyncIterator[NodeProcess]:
    """``mesh up`` with these experts, that dials ``peers``."""
    addresses = [(await peer.status()).addresses[0] for peer in peers]
    node = NodeProcess(name, root)
    node.prepare(_CONFIG.format(name=name, peers=json.dumps(addresses)) + "".join(experts))
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


async def until_offered(node: NodeProcess, *by: NodeProcess, experts: int = 1) -> None:
    """Return once ``node`` is connected to each, and knows as many experts of it as can be asked now."""
    wanted = {peer.peer_id for peer in by}
    async with Queries(database_url(node.home, StorageConfig())) as queries:

        async def known() -> bool:
            connected = set((await node.status()).connected)
            rows = [row for row in await queries.experts() if row["node"] == node.peer_id]  # not what others told it
            active = [row["peer"] for row in rows if row["state"] == "active"]
            return wanted <= connected and all(active.count(peer) >= experts for peer in wanted)

        await until(known, within=WITHIN_S, what=f"{node.name} does not know the experts of its peers")


async def settled(node: NodeProcess) -> None:
    """Return once all that the node has recorded is in its tables."""
    position = (await node.status()).position
    async with Queries(database_url(node.home, StorageConfig())) as queries:
        await queries.wait_for(position, timeout=WITHIN_S)


async def number_of(node: NodeProcess, statement: str) -> int:
    """A number out of the node's tables: ``SELECT count(*) …``."""
    ((value,),) = await rows_of(node, statement)
    return int(value)


async def rows_of(node: NodeProcess, statement: str) -> list[tuple[Any, ...]]:
    """What the node's tables answer, up to a hundred thousand rows."""
    async with Queries(database_url(node.home, StorageConfig())) as queries:
        return (await queries.sql(statement, limit=100_000))[1]
