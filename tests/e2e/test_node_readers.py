"""What `mesh creds reader` gives away: all of the history, the live events, and no way to change anything."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from mesh.api.client import Mesh, RequestFailed
from mesh.demo.nodes import NodeProcess, until
from mesh.events.broker import BrokerAddress
from mesh.events.readers import load_credentials, reader_instructions
from tests.kit.cli import mesh
from tests.kit.nodes import config, python_expert, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

READER_INFO = "mesh.history.info"
EVENT = "mesh.event.12D3KooWEvil.node.stopped"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    patient = python_expert("patient", "tests.kit.slow_experts:patient")
    async with running_node(tmp_path_factory.mktemp("readers"), "read", config("read", patient)) as running:
        async with Mesh.connect(running.home.root) as client:
            for number in range(20):
                await client.ask(f"0 {number}", domain="language")
        yield running


@asynccontextmanager
async def connected(address: BrokerAddress, complaints: list[str] | None = None) -> AsyncIterator[Client]:
    async def complain(error: Exception) -> None:
        if complaints is not None:
            complaints.append(str(error))

    client = Client()
    try:
        await client.connect(address.url, **address.options(), allow_reconnect=False, error_cb=complain)
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def snippet(node: NodeProcess, place: Path, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """The script that `mesh creds reader` prints, run as anybody would, without this package on its path."""
    printed = await mesh(node.home.root, "creds", "reader")
    assert printed.code == 0, printed.errors
    script = place / "reader.py"
    script.write_text(printed.output)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(script), *arguments, stdout=asyncio.subprocess.PIPE, limit=1 << 20, cwd=place
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def _line(output: asyncio.StreamReader) -> tuple[int, str, dict[str, Any]]:
    line = await asyncio.wait_for(output.readline(), 60)
    number, subject, event = line.decode().split(" ", 2)
    return int(number), subject, json.loads(event)


async def test_the_printed_script_reads_all_history_and_follows_live(node: NodeProcess, tmp_path: Path) -> None:
    async with snippet(node, tmp_path) as output:
        stored = (await node.status()).stored_position
        seen = [await _line(output) for _ in range(stored)]
        assert [number for number, _, _ in seen] == list(range(1, stored + 1))
        assert seen[0][1] == f"mesh.event.{node.peer_id}.node.started"
        assert seen[0][2]["type"] == "mesh.node.started"
        async with Mesh.connect(node.home.root) as client:
            outcome = await client.ask("0 live", domain="language")
        while seen[-1][2]["type"] != "mesh.request.completed" or seen[-1][2]["subject"] != outcome.request:
            seen.append(await _line(output))
        assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1)), "in order and without gaps"


async def test_the_printed_script_begins_at_any_past_position(node: NodeProcess, tmp_path: Path) -> None:
    async with snippet(node, tmp_path, "7") as output:
        assert [(await _line(output))[0] for _ in range(5)] == [7, 8, 9, 10, 11]


async def test_the_same_in_json_for_tools_in_other_languages(node: NodeProcess) -> None:
    ran = await mesh(node.home.root, "creds", "reader", "--json")
    assert ran.code == 0, ran.errors
    given = json.loads(ran.output)
    address = BrokerAddress(given["url"], given["user"], given["password"])
    async with connected(address) as client:
        live = await client.subscribe(given["live"])
        await client.flush()
        info = json.loads((await client.request(given["info"], timeout=30)).data)
        assert info["state"]["first_seq"] == 1
        first = await client.request(given["history"], json.dumps({"seq": 1}).encode(), timeout=30)
        assert json.loads(first.data)["type"] == "mesh.node.started"
        async with Mesh.connect(node.home.root) as asking:
            await asking.ask("0 x", domain="language")
        assert (await live.next_msg(timeout=30)).subject.startswith("mesh.event.")


FORBIDDEN = [
    (EVENT, b'{"specversion":"1.0"}'),
    ("mesh.api.ask", b'{"call": "1", "query": {"content": "0 evil", "domain": "language"}}'),
    ("mesh.api.cancel", b'{"call": "1"}'),
    ("mesh.api.alerts.acknowledge", b'{"alert": "x", "actor": "evil"}'),
    ("mesh.api.status", b"{}"),
    ("$SRV.PING", b""),
    ("$JS.API.INFO", b""),
    ("$JS.API.STREAM.PURGE.MESH_EVENTS", b"{}"),
    ("$JS.API.STREAM.DELETE.MESH_EVENTS", b""),
    ("$JS.API.STREAM.MSG.DELETE.MESH_EVENTS", b'{"seq": 1}'),
    ("$JS.API.STREAM.UPDATE.MESH_EVENTS", b'{"name": "MESH_EVENTS", "max_msgs": 1}'),
    ("$JS.API.STREAM.CREATE.MINE", b'{"name": "MINE", "subjects": ["mesh.event.>"]}'),
    ("$JS.API.STREAM.SNAPSHOT.MESH_EVENTS", b'{"deliver_subject": "mesh.api.ask"}'),
    ("$JS.API.CONSUMER.CREATE.MESH_EVENTS", b'{"config": {"deliver_subject": "mesh.event.a.b.c"}}'),
    ("$JS.API.CONSUMER.DURABLE.CREATE.MESH_EVENTS.mine", b'{"config": {"durable_name": "mine"}}'),
    ("$JS.API.CONSUMER.MSG.NEXT.MESH_EVENTS.mine", b'{"batch": 10}'),
    ("$JS.ACK.MESH_EVENTS.mine.1.1.1.1.1", b"+TERM"),
    ("$JS.API.ACCOUNT.PURGE.NODE", b""),
    ("$SYS.REQ.SERVER.PING", b""),
    ("$JS.API.DIRECT.GET.OTHER", b'{"seq": 1}'),
]


async def _state(node: NodeProcess) -> tuple[Any, int, bool]:
    """The stream's configuration, its first event and whether it has our consumer, as the node's own user sees it."""
    async with connected(load_credentials(node.home, "node")) as client:
        info = json.loads((await client.request("$JS.API.STREAM.INFO.MESH_EVENTS", timeout=30)).data)
        consumers = (
            json.loads((await client.request("$JS.API.CONSUMER.NAMES.MESH_EVENTS", timeout=30)).data)["consumers"] or []
        )
    return info["config"], info["state"]["first_seq"], "mine" in consumers


async def test_a_reader_can_publish_delete_and_purge_nothing(node: NodeProcess) -> None:
    before = await _state(node)
    complaints: list[str] = []
    async with connected(load_credentials(node.home, "reader"), complaints) as client:
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        for subject, body in FORBIDDEN:
            await client.publish(subject, body, reply=inbox)
        await client.flush()

        async def all_refused() -> bool:
            refused = "".join(complaints)
            return all(
                f'permissions violation for publish to "{subject.lower()}"' in refused for subject, _ in FORBIDDEN
            )

        await until(all_refused, within=60, what="the server did not refuse every subject")
        assert answers.pending_msgs == 0
    assert await _state(node) == before
    await _nothing_foreign(node)


async def test_no_answer_to_a_reader_lands_in_the_nodes_account(node: NodeProcess) -> None:
    """The server delivers stored messages to whatever reply subject it is given, so accounts have to be apart."""
    before = await _state(node)
    given = reader_instructions(node.home)
    async with (
        connected(load_credentials(node.home, "reader")) as attacker,
        connected(load_credentials(node.home, "node")) as inside,
    ):
        everything = await inside.subscribe(">")
        await inside.flush()
        for service in (given.history, given.info, "$JS.API.CONSUMER.MSG.NEXT.MESH_EVENTS.mine"):
            for reply in (EVENT, "mesh.api.ask", "$JS.API.STREAM.PURGE.MESH_EVENTS", "evil.inbox"):
                for body in (b'{"seq": 1, "batch": 5}', b'{"batch": 5}', b""):
                    await attacker.publish(service, body, reply=reply)
        await attacker.request(given.info, timeout=30)  # once it is answered, the others were dealt with
        await inside.flush()
        heard = [await everything.next_msg(timeout=1) for _ in range(everything.pending_msgs)]
    replayed = [message.subject for message in heard if message.headers and "Nats-Sequence" in message.headers]
    assert replayed == [subject for subject in replayed if subject.startswith("_R_.")], "stored events were aimed"
    assert not {"mesh.api.ask", "evil.inbox", EVENT} & {message.subject for message in heard}
    assert await _state(node) == before
    await _nothing_foreign(node)


async def test_the_python_client_with_reader_credentials_is_refused(node: NodeProcess) -> None:
    async with Mesh.connect(credentials=load_credentials(node.home, "reader")) as client:
        for call in (client.ask("0 evil", domain="language"), client.status(), client.acknowledge("x", actor="evil")):
            with pytest.raises(RequestFailed, match="forbidden: these credentials may not do that"):
                await asyncio.wait_for(call, 60)
    await _nothing_foreign(node)


@pytest.mark.parametrize("role", ["node", "operator"])
async def test_a_readers_password_opens_no_other_account(node: NodeProcess, role: str) -> None:
    reader = load_credentials(node.home, "reader")
    with pytest.raises(nats.errors.Error):
        async with connected(BrokerAddress(reader.url, role, reader.password)):
            pass


async def _nothing_foreign(node: NodeProcess) -> None:
    """The node still writes, and the whole chain holds: what is stored is what it wrote, and all of it."""
    async with Mesh.connect(node.home.root) as client:
        await client.ask("0 still here", domain="language")
    ran = await mesh(node.home.root, "audit", "verify")
    assert ran.code == 0, ran.output + ran.errors
