"""A worker that is not ours: nats.js with the example, an expert of a real node as long as it runs."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess, until
from tests.kit.javascript import copy_of, needs_node
from tests.kit.nodes import config, running_node
from tests.kit.waiting import until as soon

QUICK = "[workers]\ninterval_s = 0.3\n"

pytestmark = [
    pytest.mark.e2e,
    needs_node,
]


@asynccontextmanager
async def js_worker(directory: Path, node: NodeProcess) -> AsyncIterator[subprocess.Popen[str]]:
    code, printed, errors = await node.command("creds", "worker", "--json")
    assert code == 0, errors
    (directory / "worker.json").write_text(printed)
    with (directory / "out").open("w") as out:
        process = subprocess.Popen(["node", "worker.js", "worker.json"], cwd=directory, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def serving(mesh: Mesh, *experts: str) -> None:
    async def so() -> bool:
        return (await mesh.status()).experts == experts

    await until(so, within=60, what=f"{experts} alone did not serve")


async def taken_back(mesh: Mesh, directory: Path) -> None:
    """What a caller takes back ends in the worker."""
    pieces: list[str] = []
    asking = asyncio.create_task(
        mesh.ask("word " * 200, domain="language", options={"pause_ms": 50}, on_text=pieces.append)
    )
    await soon(lambda: bool(pieces), what="the first word")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await soon(lambda: "taken back" in (directory / "out").read_text(), what="the end of the work")


async def test_a_worker_in_javascript_is_an_expert_as_long_as_it_runs(tmp_path: Path):
    directory = copy_of("js-worker", tmp_path)
    async with (
        running_node(tmp_path, "one", config("one", extra=QUICK)) as node,
        Mesh.connect(node.home.root) as mesh,
    ):
        async with js_worker(directory, node) as process:
            await serving(mesh, "shouter-js")
            pieces: list[str] = []
            outcome = await mesh.ask("hello there", domain="language", on_text=pieces.append)
            assert "".join(pieces) == outcome.text == "HELLO THERE "
            await taken_back(mesh, directory)
            process.kill()
            await serving(mesh)
        with pytest.raises(RequestFailed, match="no expert"):
            await mesh.ask("hello there", domain="language", timeout=2)
