"""What is sealed is read with its key, is forgotten with it, and is in no byte of the home in between or after."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mesh.demo.nodes import NodeProcess, until
from mesh.experts.content_keys_files import FileContentKeys
from tests.kit.cli import Ran, mesh
from tests.kit.nodes import config, connected, offered, python_expert, running_node, tables

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

EXPERT = python_expert("patient", "tests.kit.slow_experts:patient", "language")
OPEN = python_expert("open", "tests.kit.slow_experts:patient", "reasoning")
SECRET = "swordfish-4711-is-the-password"
Nodes = tuple[NodeProcess, NodeProcess]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """The first seals what it asks of the second, but for one domain, the second what it serves."""
    root = tmp_path_factory.mktemp("content")
    serving = config("second", EXPERT, OPEN, extra='[content]\nserved = "sealed"\n')
    async with running_node(root, "second", serving) as second:
        address = (await second.status()).addresses[0]
        policy = '[routing]\ncontent = "sealed"\n[routing.domains.reasoning]\ncontent = "full"\n'
        asking = config("first", peers=[address], extra=policy)
        async with running_node(root, "first", asking) as first:
            await connected(first, second)
            await offered(first, 2)
            yield first, second


async def ran(node: NodeProcess, *arguments: str) -> Ran:
    done = await mesh(node.home.root, *arguments)
    assert done.code == 0, done.errors
    return done


async def asked(node: NodeProcess, text: str, *more: str, domain: str = "language") -> str:
    done = await ran(node, "ask", f"0 {text}", "--domain", domain, "--json", *more)
    outcome = json.loads(done.output)
    assert outcome["text"] == text
    return str(outcome["request"])


async def shown(node: NodeProcess, request: str) -> list[dict[str, Any]]:
    async with tables(node) as found:
        await found.wait_for((await node.status()).stored_position)
    return [json.loads(line) for line in (await ran(node, "show", request, "--json")).output.splitlines()]


def holds(root: Path, *wanted: bytes) -> list[str]:
    """The files below a home that hold any of these bytes."""
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 10
    return [str(path) for path in files if any(one in content_of(path) for one in wanted)]


def content_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:  # a running node replaces some of its files
        return b""


async def test_what_is_sealed_is_shown_forgotten_and_nowhere_in_the_home(nodes: Nodes) -> None:
    first, second = nodes
    request = await asked(first, SECRET)
    (row,) = await shown(first, request)
    assert (row["role"], row["kept"], row["content"], row["answer"]) == ("asked", "sealed", f"0 {SECRET}", SECRET)
    (row,) = await shown(second, request)
    assert (row["role"], row["caller"], row["content"]) == ("served", first.peer_id, f"0 {SECRET}")
    assert SECRET in (await ran(first, "requests", "--content")).output
    assert holds(first.home.root, SECRET.encode()) == holds(second.home.root, SECRET.encode()) == []
    assert [path for path in holds(first.home.root, request.encode()) if "/broker/" in path], "looked at no journal"

    keys = [key.key for node in nodes for key in FileContentKeys(node.home.content_keys).find(request)]
    assert len(keys) == 2
    assert len(holds(first.home.root, *keys)) == 1
    assert "forgotten: 1 request" in (await ran(first, "forget", request, "--actor", "ann")).output
    (row,) = await shown(first, request)
    assert (row["content"], row["answer"], row["note"][:13]) == (None, None, "forgotten at ")
    (row,) = await shown(second, request)
    assert row["content"] == f"0 {SECRET}"
    await ran(second, "forget", "--caller", first.peer_id)
    (row,) = await shown(second, request)
    assert (row["content"], "its key is not here" in row["note"]) == (None, True)
    for node in nodes:
        assert holds(node.home.root, SECRET.encode(), *keys) == []
        why = await ran(node, "events", "tail", "--after", "0", "--no-follow", "--only", "request", "--json")
        assert '"type":"mesh.request.forgotten"' in why.output.replace('": "', '":"')
    story = (await ran(first, "why", request)).output
    assert "forgotten" in story
    assert "actor=ann" in story
    assert "swordfish" not in story


async def test_the_beginning_of_an_id_is_enough_to_be_shown_it(nodes: Nodes) -> None:
    request = await asked(nodes[0], "by how it begins")
    for node in nodes:
        (row,) = await shown(node, request)
        assert await shown(node, request[:-2]) == await shown(node, f"chatcmpl-{request}") == [row]
    (await mesh(nodes[0].home.root, "show", request[:6])).refused(1, "too short", "8 characters")


async def test_the_beginning_of_an_id_is_enough_to_forget_it(nodes: Nodes) -> None:
    home = nodes[0].home.root
    for beginning in ("", "chatcmpl-"):
        request = await asked(nodes[0], "soon forgotten")
        (row,) = await shown(nodes[0], request)
        assert "forgotten: 1 request" in (await ran(nodes[0], "forget", beginning + request[:-2])).output
        (row,) = await shown(nodes[0], request)
        assert (row["content"], row["note"][:13]) == (None, "forgotten at ")
    (await mesh(home, "forget", request[:-2])).refused(1, "no key is kept of", "it was forgotten before")
    (await mesh(home, "forget", request[:6])).refused(1, "too short", "8 characters")


async def test_what_is_kept_in_full_is_said_to_be_out_of_reach(nodes: Nodes) -> None:
    request = await asked(nodes[0], "for everybody", domain="reasoning")
    (row,) = await shown(nodes[0], request)
    assert row["content"] == "0 for everybody"
    (await mesh(nodes[0].home.root, "forget", request[:-2])).refused(
        1, f"{request} is kept in full", "only what is sealed"
    )


async def test_the_history_is_whole_and_the_tables_rebuild_to_the_same(nodes: Nodes) -> None:
    request = await asked(nodes[0], "to be forgotten")
    await ran(nodes[0], "forget", request)
    for node in nodes:
        await ran(node, "audit", "verify")
        assert json.loads((await ran(node, "digest", "--check", "--json")).output)["identical"]


async def test_a_caller_can_wish_that_nothing_is_kept_anywhere(nodes: Nodes) -> None:
    request = await asked(nodes[0], "nothing of this", "--keep", "digest")
    for node, kept in zip(nodes, await shown(nodes[0], request) + await shown(nodes[1], request), strict=True):
        assert (kept["kept"], kept["content"], kept["note"]) == ("digest", None, "only digests are kept")
        (await mesh(node.home.root, "forget", request)).refused(1, "no key is kept of", "only digests", "mesh show")


async def test_what_cannot_be_forgotten_is_refused_clearly(nodes: Nodes) -> None:
    home = nodes[0].home.root
    (await mesh(home, "forget")).refused(1, "what should be forgotten?", "--older-than")
    (await mesh(home, "forget", "--older-than", "soon")).refused(1, "'soon' is no age", "30d")
    (await mesh(home, "forget", "no-such-request")).refused(1, "no request's id begins with 'no-such-request'")
    unknown = "0199aaaa-1111-7000-8000-000000000001"
    (await mesh(home, "forget", unknown)).refused(1, f"there is no request {unknown}", "mesh requests")
    (await mesh(home, "show", "no-such-request")).refused(1, "no request's id begins with 'no-such-request'")
    (await mesh(home, "ask", "hi", "--keep", "nothing")).refused(1, "keep = 'nothing'", "'digest'")


async def test_the_node_forgets_by_itself_and_after_a_restart_too(tmp_path: Path) -> None:
    text = config("lone", EXPERT, extra='[routing]\ncontent = "sealed"\n[content]\nretain_days = 0.00005\n')
    async with running_node(tmp_path, "lone", text) as node:
        request = await asked(node, SECRET)
        keys = FileContentKeys(node.home.content_keys)

        async def forgotten() -> bool:
            return not keys.find(request) and not keys.erased()

        await until(forgotten, within=60, what="the key was not erased")
        (row,) = await shown(node, request)
        assert row["note"].startswith("forgotten at ")
        last = await asked(node, "a second one")
        await node.kill()
        await node.start()
        await until(lambda: _none(keys, last), within=60, what="the key was not erased after the restart")
        assert (await shown(node, last))[0]["note"].startswith("forgotten at ")
    assert holds(node.home.root, SECRET.encode()) == []


async def _none(keys: FileContentKeys, request: str) -> bool:
    return not keys.find(request) and not keys.erased()
