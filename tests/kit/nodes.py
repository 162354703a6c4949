"""Whole nodes as real processes, for end-to-end tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from mesh.config import StorageConfig
from mesh.demo.nodes import NodeProcess, until
from mesh.health.records import COUNTS_AFTER_S
from mesh.projections.database import database_url
from mesh.projections.queries import Queries

MATHS = """
[[experts]]
name = "solver"
backend = "mathematics"
domains = ["mathematics"]
"""


def python_expert(name: str, path: str, domain: str = "language", concurrency: int = 64) -> str:
    return f"""
[[experts]]
name = "{name}"
backend = "python"
domains = ["{domain}"]
concurrency = {concurrency}
options = {{ path = "{path}" }}
"""


def config(name: str, *experts: str, peers: Sequence[str] = (), extra: str = "") -> str:
    """A node on loopback without mDNS that redials soon."""
    listed = ", ".join(f'"{peer}"' for peer in peers)
    return (
        f'[node]\nname = "{name}"\nmesh = "test"\n'
        f'[overlay]\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nmdns = false\npeers = [{listed}]\n'
        f"redial_min_s = 0.2\nredial_max_s = 1.0\noffer_interval_s = 1.0\n[health]\ninterval_s = 1.0\n"
        f"[alerts.rules.peer_lost]\nfor_s = 1.0\n{extra}\n" + "".join(experts)
    )


@asynccontextmanager
async def running_node(root: Path, name: str, text: str) -> AsyncIterator[NodeProcess]:
    node = NodeProcess(name, root)
    node.prepare(text)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@asynccontextmanager
async def two_nodes(
    root: Path, *experts: str, first: Sequence[str] = (), extra: str = ""
) -> AsyncIterator[tuple[NodeProcess, NodeProcess]]:
    """Two connected nodes; the second has ``experts`` and is known by its offers to the first, which has ``extra``."""
    async with running_node(root, "second", config("second", *experts)) as second:
        address = (await second.status()).addresses[0]
        async with running_node(root, "first", config("first", *first, peers=[address], extra=extra)) as one:
            await connected(one, second)
            await offered(one, len(experts) + len(first))
            yield one, second


async def connected(*nodes: NodeProcess, within: float = 60) -> None:
    async def all_there() -> bool:
        statuses = await asyncio.gather(*(node.status() for node in nodes))
        return all(len(status.connected) >= len(nodes) - 1 for status in statuses)

    await until(all_there, within=within, what="the nodes did not connect")


async def offered(node: NodeProcess, count: int, within: float = 60) -> None:
    async with tables(node) as found:

        async def known() -> bool:
            own = [row for row in await found.experts() if row["node"] == node.peer_id]  # not what others told it
            return sum(row["state"] == "active" for row in own) >= count

        await until(known, within=within, what=f"{count} experts were not offered")


async def acquainted(node: NodeProcess, other: NodeProcess) -> bool:
    """Whether the connection to ``other`` has lasted long enough to be missed, as far as the node's tables know."""
    async with tables(node) as found:
        for row in await found.peers():
            if row["peer"] == other.peer_id and row["connected_at"] and row["last_seen_at"]:
                since, seen = (datetime.fromisoformat(row[name]) for name in ("connected_at", "last_seen_at"))
                return (seen - since).total_seconds() > COUNTS_AFTER_S
    return False


@asynccontextmanager
async def tables(node: NodeProcess) -> AsyncIterator[Queries]:
    async with Queries(database_url(node.home, StorageConfig())) as queries:
        yield queries
