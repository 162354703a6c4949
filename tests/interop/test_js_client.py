"""A libp2p peer that is not ours: js-libp2p with the example client, against a real node."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.demo.nodes import NodeProcess
from tests.kit.nodes import MATHS, config, python_expert, running_node

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/js-client"
CACHE = ROOT / "build/js-client"
INSTALLED = ("package.json", "package-lock.json", ".npmrc")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="there is no Node.js here"),
]


def modules() -> Path:
    """What the lock file pins, installed once for all tests that come after."""
    digest = hashlib.sha256(b"".join((EXAMPLE / name).read_bytes() for name in INSTALLED)).hexdigest()[:16]
    home = CACHE / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            home.mkdir(exist_ok=True)
            for name in INSTALLED:
                shutil.copy(EXAMPLE / name, home)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=180, check=False)
            assert done.returncode == 0, done.stderr
            (home / "installed").touch()
    return home / "node_modules"


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A copy of the example beside what it needs."""
    directory = tmp_path / "js"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(Path(__file__).with_name("conversation.mjs"), directory)
    (directory / "node_modules").symlink_to(modules())
    return directory


async def run_js(directory: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )  # fmt: skip
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), errors.decode()


async def journal(node: NodeProcess) -> dict[str, list[dict]]:
    """The data of the events in the node's journal, by type."""
    code, output, errors = await node.command("events", "tail", "--after", "0", "--no-follow", "--json")
    assert code == 0, errors
    found: dict[str, list[dict]] = {}
    for line in output.splitlines():
        event = json.loads(line)["event"]
        found.setdefault(event["type"].removeprefix("mesh."), []).append(event["data"])
    return found


async def test_js_libp2p_dials_identifies_pings_asks_cancels_and_follows_offers(tmp_path: Path, client: Path) -> None:
    experts = (
        MATHS,
        python_expert("drip", "tests.kit.slow_experts:dripping"),
        python_expert("patient", "tests.kit.slow_experts:patient"),
    )
    async with running_node(tmp_path, "served", config("served", *experts)) as node:
        (address,) = (await node.status()).addresses
        code, output, errors = await run_js(client, "conversation.mjs", address, "test")
        assert code == 0, errors
        seen = json.loads(output)
        judge(seen, node.peer_id)
        judge_journal(await journal(node), seen)
        code, output, errors = await run_js(client, "ask.js", address, "17*23", "--mesh", "test")
        assert (code, output.strip()) == (0, "391"), errors


def test_the_lock_pins_every_module_and_names_no_host() -> None:
    packages = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    assert len(packages) > 10
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


def judge(seen: dict, peer: str) -> None:
    """What the client saw."""
    assert (seen["peer"], seen["encryption"]) == (peer, "/noise")
    assert {"/mesh/expert/1.0.0", "/meshsub/1.1.0", "/ipfs/ping/1.0.0"} <= set(seen["identify"]["protocols"])
    assert seen["ping_ms"] < 1000
    assert (seen["hello"]["versions"], seen["hello"]["mesh"], seen["hello"]["name"]) == ([1], "test", "served")
    assert [offer["expert"] for offer in seen["offers"]["offers"]] == ["solver", "drip", "patient"]
    assert seen["solved"]["text"] == "x = 2 or x = 3"
    assert seen["solved"]["model"].startswith("sympy")
    assert seen["pieces"] == ["one ", "two ", "three ", "four "]
    assert seen["streamed"]["text"] == "".join(seen["pieces"])
    assert seen["unknown_expert"]["kind"] == "unknown_expert"
    assert seen["unknown_method"]["kind"] == "unknown_method"
    assert seen["meanwhile"] == "391"
    assert seen["long"]["answered"] == seen["long"]["asked"] > 262144
    assert seen["cancelled"]["kind"] == "cancelled"
    assert seen["expired"]["kind"] == "expired"
    assert seen["after"] == "still here"
    assert seen["gossip"]["peer"] == peer
    assert [offer["expert"] for offer in seen["gossip"]["offers"]] == ["solver", "drip", "patient"]
    assert seen["still_open"]
    assert seen["other_mesh"]["kind"] == "refused"
    assert "elsewhere" in seen["other_mesh"]["message"]


def judge_journal(facts: dict[str, list[dict]], seen: dict) -> None:
    """What the node recorded of it: a client that keeps the rules broke none."""
    assert {"answered", "cancelled"} <= {fact["outcome"] for fact in facts["request.served"]}
    assert seen["solved"]["digest"] in {fact["answer_digest"] for fact in facts["request.served"]}
    assert "peer.misbehaved" not in facts
    assert {fact["rule"] for fact in facts["peer.refused"]} == {"mesh"}
    assert any("js-libp2p" in fact["agent"] for fact in facts["peer.identified"])
