"""docs/gateway.md and docs/api.md: every example is run against a node, every table is that of the code."""

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from mesh.api import messages
from mesh.config import GatewayConfig
from mesh.gateway import answers, intake, problems, server
from mesh.gateway.openapi import document
from mesh.gateway.protocol import Bounds
from tests.kit.cli import environment
from tests.kit.nodes import MATHS, config, running_node

DOCS = Path(__file__).parents[2] / "docs"
GATEWAY, API = (DOCS / "gateway.md").read_text(), (DOCS / "api.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def ran(*command: str, **env: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(**env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.e2e
async def test_the_examples_run(tmp_path: Path) -> None:
    async with running_node(tmp_path, "node", config("node", MATHS)) as node:
        env = {"MESH_HOME": str(node.home.root), "GATEWAY": f"{(await node.status()).gateway_url}/v1"}
        scripts = [*blocks(GATEWAY, "python"), *blocks(API, "python")]
        outputs = await asyncio.gather(*(ran(sys.executable, "-c", script, **env) for script in scripts))
        if shutil.which("curl"):
            outputs.append(await ran("sh", "-c", blocks(GATEWAY, "sh")[0], **env))
    assert len(scripts) == 4
    assert all("391" in output for output in outputs), outputs
    assert outputs[0].split()[1] == "solver"
    assert outputs[0].split()[2].startswith("chatcmpl-")
    assert "no_candidates" in outputs[1]
    assert "399" in outputs[2]


def test_every_error_every_endpoint_and_every_field_is_named() -> None:
    for code, (status, _) in problems._KINDS.items():
        row = next(line for line in GATEWAY.splitlines() if line.startswith(f"| {status} |"))
        assert f"`{code}`" in row, code
    promised = {status for path in document()["paths"].values() for each in path.values() if isinstance(each, dict)
                for status in each["responses"]}  # fmt: skip
    assert promised - {"200"} <= set(re.findall(r"^\| (\d+) \|", GATEWAY, re.MULTILINE))
    for path in document()["paths"]:
        assert path.replace("{model}", "NAME") in GATEWAY, path
    kept = ("request", "strategy", "policy", "domain", "expert", "model", "peers", "attempts", "agreement", "fallback")
    assert all(f"`{name}`" in GATEWAY and f'"{name}"' in Path(answers.__file__).read_text() for name in kept)


def test_the_limits_are_those_of_the_code() -> None:
    defaults, bounds = GatewayConfig(), Bounds(connections=1, message_bytes=1)
    for line in (
        f"| `[gateway] max_connections` | {defaults.max_connections} |",
        f"| {bounds.head_bytes >> 10} KiB, within {bounds.head_s:.0f} s |",
        f"(8 MiB); {intake._BODY_S:.0f} s and a second for each {intake._SLOWEST_BYTES_PER_S >> 10} KiB |",
        f"| {intake._BODIES} of the largest |",
        f"| a client that does not read | {bounds.stalled_s:.0f} s |",
        f"| an idle connection | {server._KEEP_ALIVE_S} s |",
        f"| {intake._STRANGERS_PER_MINUTE} a minute |",
    ):
        assert line in GATEWAY, line
    assert defaults.max_body_bytes == 8 << 20


def test_every_subject_is_listed_with_its_fields() -> None:
    bodies = {
        messages.ASK: messages.AskMessage,
        messages.CANCEL: messages.CancelMessage,
        messages.ACKNOWLEDGE: messages.AcknowledgeMessage,
        messages.ACCESS: messages.AccessMessage,
    }
    for subject, body in bodies.items():
        row = next(line for line in API.splitlines() if line.startswith(f"| `{subject}` |"))
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == list(body.model_fields)
    (asked,) = re.findall(r"'(\{.*\})'", blocks(API, "sh")[0])
    messages.AskMessage.model_validate(json.loads(asked))
