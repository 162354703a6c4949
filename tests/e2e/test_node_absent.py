"""Commands where no node runs: on an empty directory, and on the home of a node that was stopped."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.api.client import Mesh
from mesh.demo.nodes import NodeProcess, until
from mesh.errors import NodeUnreachable
from mesh.identity import create_key_file
from tests.kit.cli import begin, mesh, shell
from tests.kit.nodes import MATHS, config, running_node, tables

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stopped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    place = tmp_path_factory.mktemp("stopped")
    async with running_node(place, "node", config("node", MATHS)) as node, Mesh.connect(node.home.root) as client:
        await client.ask("2+2", domain="mathematics")
        async with tables(node) as found:
            await found.wait_for((await node.status()).stored_position)
    yield node


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("up", 77, ["there is no key file", "mesh init"]),
        ("status", 69, ["there is no node in", "mesh init"]),
        ("ask hi", 69, ["there is no node in", "mesh init"]),
        ("alerts ack x", 69, ["there is no node in", "mesh init"]),
        ("creds reader", 69, ["there is no node in", "mesh init"]),
        ("keys", 69, ["there is no node in", "mesh init"]),
        ("keys add x", 69, ["there is no node in", "mesh init"]),
        ("keys revoke x", 69, ["there is no node in", "mesh init"]),
        ("requests", 66, ["there are no tables", "mesh up", "mesh init"]),
        ("digest", 66, ["there are no tables"]),
        ("sql SELECT(1)", 66, ["there are no tables"]),
        ("audit verify", 69, ["there is no node in", "mesh init"]),
        ("events tail", 69, ["there is no node in", "mesh init"]),
        ("rebuild", 69, ["there is no node in"]),
        ("why x", 77, ["there is no key file", "mesh init"]),
    ],
)
async def test_an_empty_directory_is_said_to_be_empty(
    tmp_path: Path, command: str, code: int, words: list[str]
) -> None:
    home = tmp_path / "nowhere"
    (await mesh(home, *command.split())).refused(code, str(home), *words)
    assert not home.exists(), "it was made by looking at it"


@pytest.mark.parametrize("command", ["status", "ask hi", "creds reader", "audit verify", "events tail"])
async def test_a_node_that_never_ran_is_to_be_started(tmp_path: Path, command: str) -> None:
    create_key_file(tmp_path / "identity.key")
    said = f"mesh: no node has run in {tmp_path} yet. Start it with `mesh up`.\n"
    ran = await mesh(tmp_path, *command.split())
    assert (ran.code, ran.errors) == (69, said)
    assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == ["identity.key"]


@pytest.mark.parametrize("command", ["status", "ask hi", "alerts ack x"])
async def test_what_needs_a_running_node_says_that_it_is_not_running(stopped: NodeProcess, command: str) -> None:
    (await mesh(stopped.home.root, *command.split())).refused(69, "no node answers at nats://127.0.0.1:", "mesh up")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("requests", "completed"),
        ("experts", "solver"),
        ("events tail --no-follow", "node.stopped"),
        ("events show 1 --json", "mesh.node.started"),
        ("creds reader", "import nats"),
        ("digest --check", "all tables"),
        ("audit verify", "whole"),
        ("sql SELECT(state)FROM(requests)", "completed"),
    ],
)
async def test_reading_needs_no_running_node(stopped: NodeProcess, command: str, word: str) -> None:
    ran = await mesh(stopped.home.root, *command.split())
    assert ran.code == 0, ran.errors
    assert word in ran.output


@pytest.mark.parametrize("command", ["requests", "requests --json", "events tail --no-follow", "config", "--help"])
@pytest.mark.parametrize(
    ("where", "code", "says"),
    [
        ("> /dev/full", 74, "mesh: standard output cannot be written: No space left on device\n"),
        (">&-", 74, "mesh: standard output cannot be written: Bad file descriptor\n"),
        ("| true", 141, ""),
    ],
)
async def test_output_that_goes_nowhere_ends_a_command_in_one_way(
    stopped: NodeProcess, command: str, where: str, code: int, says: str
) -> None:
    ran = await shell(stopped.home.root, f"mesh {command} {where}")
    assert (ran.code, ran.output, ran.errors) == (code, "", says)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("mesh status 2>&-", 69, ""),
        ("mesh ask - <&-", 1, "mesh: standard input cannot be read: Bad file descriptor\n"),
    ],
)
async def test_other_streams_may_be_closed(stopped: NodeProcess, command: str, code: int, says: str) -> None:
    ran = await shell(stopped.home.root, command)
    assert (ran.code, ran.output, ran.errors) == (code, "", says)


async def test_the_tables_of_a_killed_node_say_of_when_they_are(tmp_path: Path) -> None:
    async with running_node(tmp_path, "killed", config("killed", MATHS)) as node, tables(node) as found:
        await found.wait_for((await node.status()).stored_position, timeout=60)
        home = node.home.root
        warned = r"mesh: the node is not running: its tables are as they were at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n"
        assert [(await mesh(home, command)).errors for command in ("peers", "experts", "health")] == [""] * 3
        await node.kill()
        for command in ("peers", "experts", "health"):
            said = (await mesh(home, command)).errors
            assert re.fullmatch(warned, said), said
            assert (await mesh(home, command, "--json")).errors == ""


async def test_a_tail_that_shows_nothing_says_what_it_looked_through(stopped: NodeProcess) -> None:
    tail = ("events", "tail", "--no-follow")
    some = await mesh(stopped.home.root, *tail, "--after", "-3", "--origin", "nobody")
    every = await mesh(stopped.home.root, *tail, "--after", "0", "--origin", "nobody")
    assert (some.code, some.output, every.code, every.output) == (0, "", 0, "")
    assert re.search(r"of the events from \d+ to \d+ none is what was asked for; --after 0 reads all\n", some.errors)
    assert re.search(r"of the events from 1 to \d+ none is what was asked for\n", every.errors)
    assert "none" not in (await mesh(stopped.home.root, *tail, "--only", "node.stopped")).errors


async def test_a_tail_from_beyond_the_end_says_where_that_is(stopped: NodeProcess) -> None:
    ran = await mesh(stopped.home.root, "events", "tail", "--no-follow", "--after", "99999999", "--origin", "nobody")
    assert (ran.code, ran.output) == (0, "")
    assert re.fullmatch(r"mesh: the journal ends at \d+: there is nothing after 99999999\n", ran.errors)


async def test_why_needs_no_running_node(stopped: NodeProcess) -> None:
    async with tables(stopped) as found:
        request = (await found.requests(limit=1))[0]["request"]
    ran = await mesh(stopped.home.root, "why", request)
    assert ran.code == 0, ran.errors
    assert "recomputed: identical" in ran.output


async def test_a_home_can_be_made_and_run_by_following_what_the_commands_say(tmp_path: Path) -> None:
    home = tmp_path / "new"
    made = await mesh(home, "init", "--name", "fresh")
    assert made.code == 0, made.errors
    assert f"mesh up --home {home}" in made.output
    node = NodeProcess("new", tmp_path)
    listen = {"MESH_OVERLAY__LISTEN": '["/ip4/127.0.0.1/tcp/0"]', "MESH_OVERLAY__MDNS": "false"}
    settings = await mesh(home, "config", "--json", env=listen)
    assert json.loads(settings.output)["node"]["name"] == "fresh"
    process = await begin(home, "up", env=listen)
    try:
        await until(lambda: _answers(node), within=120, what="the node did not start")
        ran = await mesh(home, "ask", "What is 6*7?")
        assert (ran.code, ran.output) == (0, "42\n"), ran.errors
    finally:
        process.terminate()
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def _answers(node: NodeProcess) -> bool:
    try:
        return (await node.status()).pid > 0
    except NodeUnreachable:
        return False
