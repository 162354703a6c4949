"""A libp2p peer that is not ours: js-libp2p with the example client, against a real node."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.demo.nodes import NodeProcess
from tests.kit.javascript import ROOT, copy_of, modules, needs_node, run_js
from tests.kit.nodes import MATHS, config, python_expert, running_node

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    needs_node,
]


TCP = "/ip4/127.0.0.1/tcp/0"
TRANSPORTS = {"tcp": "/tcp/", "ws": "/ws/", "quic-v1": "/quic-v1/"}
EXPERTS = (
    MATHS,
    python_expert("drip", "tests.kit.slow_experts:dripping"),
    python_expert("patient", "tests.kit.slow_experts:patient"),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    """A node that listens on all transports."""
    listen = f'listen = ["{TCP}", "{TCP}/ws", "/ip4/127.0.0.1/udp/0/quic-v1"]'
    text = config("served", *EXPERTS).replace(f'listen = ["{TCP}"]', listen)
    async with running_node(tmp_path_factory.mktemp("js-client"), "served", text) as running:
        yield running


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A copy of the example."""
    directory = copy_of("js-client", tmp_path)
    shutil.copy(Path(__file__).with_name("conversation.mjs"), directory)
    return directory


def quic_module() -> str:
    """Another's QUIC (quinn, in Rust), for js-libp2p; there is none for some machines."""
    installed = modules(Path(__file__).with_name("js-quic"), "install") / "@chainsafe"
    if not list(installed.glob("libp2p-quic-*")):
        pytest.skip("there is no QUIC of js-libp2p's for this machine")
    return str(installed / "libp2p-quic/dist/src/index.js")


async def journal(node: NodeProcess) -> dict[str, list[dict]]:
    """The data of the events in the node's journal, by type."""
    code, output, errors = await node.command("events", "tail", "--after", "0", "--no-follow", "--json")
    assert code == 0, errors
    found: dict[str, list[dict]] = {}
    for line in output.splitlines():
        event = json.loads(line)["event"]
        found.setdefault(event["type"].removeprefix("mesh."), []).append(event["data"])
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_js_libp2p_dials_identifies_pings_asks_cancels_and_follows_offers(
    node: NodeProcess, client: Path, transport: str
) -> None:
    address = next(one for one in (await node.status()).addresses if TRANSPORTS[transport] in one)
    by_quic = [quic_module()] if transport == "quic-v1" else []
    code, output, errors = await run_js(client, "conversation.mjs", address, "test", *by_quic)
    assert code == 0, errors
    seen = json.loads(output)
    judge(seen, node.peer_id)
    judge_journal(await journal(node), seen, transport)
    if by_quic:  # the example does without it
        return
    code, output, errors = await run_js(client, "ask.js", address, "17*23", "--mesh", "test")
    assert (code, output.strip()) == (0, "391"), errors


@pytest.mark.parametrize("directory", ["examples/js-client", "tests/interop/js-quic"])
async def test_the_lock_pins_every_module_and_names_no_host(directory: str) -> None:
    packages = json.loads((ROOT / directory / "package-lock.json").read_text())["packages"]
    assert len(packages) > 10
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


def judge(seen: dict, peer: str) -> None:
    """What the client saw."""
    assert seen["peer"] == peer
    assert {"/mesh/expert/1.0.0", "/meshsub/1.1.0", "/ipfs/ping/1.0.0"} <= set(seen["identify"]["protocols"])
    assert seen["ping_ms"] < 30_000
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


def judge_journal(facts: dict[str, list[dict]], seen: dict, transport: str) -> None:
    """What the node recorded of it: a client that keeps the rules broke none."""
    assert {"answered", "cancelled"} <= {fact["outcome"] for fact in facts["request.served"]}
    assert seen["solved"]["digest"] in {fact["answer_digest"] for fact in facts["request.served"]}
    assert "peer.misbehaved" not in facts
    assert {fact["rule"] for fact in facts["peer.refused"]} == {"mesh"}
    assert transport in {fact["transport"] for fact in facts["peer.connected"]}
    assert any("js-libp2p" in fact["agent"] for fact in facts["peer.identified"])
