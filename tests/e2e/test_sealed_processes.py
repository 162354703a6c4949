"""Real nodes that seal what they say: it is answered, who does not seal is refused, and the carriers learn nothing."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mesh.api.client import Mesh
from mesh.demo.nodes import NodeProcess, until
from mesh.p2p.calls import CallFailed
from mesh.p2p.frames import Kind
from mesh.p2p.messages import RequestHead, parse_head
from tests.kit.carriers import Carriers
from tests.kit.cli import mesh
from tests.kit.nodes import config, connected, offered, python_expert, running_node
from tests.kit.peer_child import real_node

pytestmark = pytest.mark.e2e

SECRET = "umbrellas wait behind Gloucester"


def sealing(mode: str, name: str, *experts: str, peers: tuple[str, ...] = ()) -> str:
    return config(name, *experts, peers=peers).replace("[overlay]\n", f'[overlay]\nseal = "{mode}"\n')


async def refusals(node: NodeProcess) -> list[dict[str, str]]:
    ran = await mesh(node.home.root, "events", "tail", "--after", "0", "--no-follow", "--json")
    events = [json.loads(line)["event"] for line in ran.output.splitlines()]
    return [event["data"] for event in events if event["type"] == "mesh.peer.refused"]


async def test_what_is_sealed_is_answered_and_nobody_else_learns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carriers").mkdir()
    carriers = Carriers(tmp_path / "carriers", monkeypatch)
    async with AsyncExitStack() as stack:

        async def started(name: str, text: str) -> NodeProcess:
            return await stack.enter_async_context(running_node(tmp_path, name, text))

        expert = python_expert("confidant", "tests.kit.slow_experts:dripping")
        second = await started("second", sealing("require", "second", expert))
        address = (await second.status()).addresses[0]
        first = await started("first", sealing("require", "first", peers=(address,)))
        open_one, _ = real_node(tmp_path / "open", mesh="test", seal="off")
        await open_one.start()
        stack.push_async_callback(open_one.stop)
        open_one.peers.learn(second.peer_id, [address], "static")
        await connected(first, second)
        await offered(first, 1)
        pieces: list[str] = []
        async with Mesh.connect(first.home.root) as client:
            outcome = await client.ask(SECRET, expert="confidant", on_text=pieces.append, timeout=60)
            assert "".join(pieces) == outcome.text == SECRET + " "

        async def is_refused() -> bool:
            refused = {(fact["peer"], fact["rule"], fact["limit"], fact["value"]) for fact in await refusals(second)}
            return (open_one.peer_id, "seal", "require", "off") in refused

        await until(is_refused, within=60, what="the refusal of who does not seal")
        with pytest.raises(CallFailed):
            await open_one.peers.call(second.peer_id, "expert.offers", {}, timeout=5)
        for node in (first, second):
            overlay = (await node.status()).processes["overlay"]
            frames = carriers.frames_of(overlay)
            assert {Kind.HELLO, Kind.REQUEST, Kind.CHUNK, Kind.RESULT} <= {frame.kind for frame in frames}
            requests = [parse_head(RequestHead, frame.body)[0] for frame in frames if frame.kind is Kind.REQUEST]
            assert {(request.method, len(request.header)) for request in requests} == {("sealed", 0)}
            carried = b"".join(carriers.bytes_of(overlay))
            for word in (*SECRET.split(), "confidant", "expert.ask", outcome.request):
                assert word.encode() not in carried, word
