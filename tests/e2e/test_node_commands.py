"""``mesh`` commands against two running nodes: asking, being told why, and everything that is asked wrongly."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mesh.demo.nodes import NodeProcess, until
from tests.kit.cli import begin, environment, mesh, shell
from tests.kit.nodes import MATHS, python_expert, tables, two_nodes

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

EXPERTS = (
    python_expert("patient", "tests.kit.slow_experts:patient", "language", concurrency=2),
    python_expert("dripping", "tests.kit.slow_experts:dripping", "reasoning"),
    python_expert("held", "tests.kit.slow_experts:held", "holding"),
    MATHS,
)
ALERTED = "[alerts.rules.node_resources_memory]\nthreshold = 1.0\n"
Nodes = tuple[NodeProcess, NodeProcess]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """The first has no experts: whatever it is asked is served by the second. It has asked, and has an alert."""
    async with two_nodes(tmp_path_factory.mktemp("commands"), *EXPERTS, extra=ALERTED) as both:
        await asked(both[0], "0 hello", "--domain", "language")

        async def shown(*command: str) -> bool:
            return bool((await mesh(both[0].home.root, *command, "--json")).output.strip())

        await until(partial(shown, "requests", "--state", "completed"), within=60, what="the request was not shown")
        await until(partial(shown, "alerts", "--all"), within=60, what="the alert was not shown")
        yield both


async def facts_of(node: NodeProcess, request: str) -> list[str]:
    """The types of a request's events in a node's journal, in order."""
    ran = await mesh(node.home.root, "events", "tail", "--after", "0", "--no-follow", "--only", "request", "--json")
    assert ran.code == 0, ran.errors
    events = (json.loads(line)["event"] for line in ran.output.splitlines())
    return [event["type"].removeprefix("mesh.") for event in events if event["correlationid"] == request]


async def asked(node: NodeProcess, *arguments: str, stdin: str = "") -> dict[str, Any]:
    ran = await mesh(node.home.root, "ask", *arguments, "--json", stdin=stdin)
    assert ran.code == 0, ran.errors
    outcome: dict[str, Any] = json.loads(ran.output)
    return outcome


def request_in(errors: str) -> str:
    """The id that an error or a closing line offers to `mesh why`."""
    found = re.search(r"mesh why ([0-9a-f-]{36})", errors)
    assert found, errors
    return found[1]


async def test_the_answer_goes_to_standard_output_and_how_it_came_about_to_the_other(nodes: Nodes) -> None:
    first, second = nodes
    ran = await mesh(first.home.root, "ask", "0 hello", "--domain", "language")
    assert (ran.code, ran.output) == (0, "hello\n")
    assert f"[patient at …{second.peer_id[-8:]}" in ran.errors
    assert "mesh why " in ran.errors


async def test_the_answer_streams_piece_by_piece(nodes: Nodes, tmp_path: Path) -> None:
    process = await begin(nodes[0].home.root, "ask", str(tmp_path), "--domain", "holding")
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readexactly(6), 60) == b"first "
    assert process.returncode is None
    (tmp_path / "go").touch()
    rest, _ = await process.communicate()
    assert (rest, process.returncode) == (b"second\n", 0)


async def test_json_is_one_document_with_the_whole_outcome(nodes: Nodes) -> None:
    outcome = await asked(nodes[0], "2+2", "--domain", "mathematics")
    assert (outcome["text"], outcome["expert"], outcome["peers"]) == ("4", "solver", [nodes[1].peer_id])
    assert await facts_of(nodes[0], outcome["request"]) == [
        "request.received",
        "request.routed",
        "request.dispatched",
        "request.answered",
        "request.completed",
    ]


@pytest.mark.parametrize(
    "text", ["0 two\nlines", "0 ünïcödé 🐙", "0 " + "x" * 4_000_000], ids=["lines", "umlauts", "4MB"]
)
async def test_a_prompt_from_standard_input_arrives_whole(nodes: Nodes, text: str) -> None:
    assert (await asked(nodes[0], "-", "--domain", "language", stdin=text))["text"] == text[2:]


async def test_a_prompt_may_begin_with_a_minus(nodes: Nodes) -> None:
    assert (await asked(nodes[0], "-5 + 3", "--domain", "mathematics"))["text"] == "-2"


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        pytest.param(["hi", "--domain", "astrology"], "", ["no_candidates", "'astrology': nobody offers"], id="domain"),
        pytest.param(["hi", "--domain", "No!"], "", ["invalid: domain = 'No!'"], id="a domain that is none"),
        pytest.param(["hi", "--expert", "nobody"], "", ["no_candidates", "'nobody'"], id="expert"),
        pytest.param(["", "--domain", "language"], "", ["invalid: content = ''"], id="an empty prompt"),
        pytest.param(["-", "--domain", "language"], "", ["invalid: content = ''"], id="empty standard input"),
        pytest.param(["hi", "--strategy", "magic"], "", ["strategy = 'magic'", "'best_peer'"], id="strategy"),
        pytest.param(["hi", "--policy", "magic"], "", ["policy = 'magic'", "'weighted'"], id="policy"),
        pytest.param(["hi", "--timeout", "-1"], "", ["timeout_s = -1", "greater than or equal to 0"], id="timeout"),
        pytest.param(["hi", "--fan-out", "99"], "", ["fan_out = 99", "16"], id="fan-out"),
        pytest.param(["9000 x", "--expert", "patient", "--timeout", "0.3"], "", ["expired: no answer"], id="deadline"),
        pytest.param(["-"], "x" * 5_000_000, ["5000000 bytes", "max_content_bytes is 4194304"], id="over the limit"),
        pytest.param(["-"], "x" * 9_000_000, ["the broker takes 8388608"], id="over the broker's limit"),
        pytest.param(["0 \udc80"], "", ["not Unicode"], id="not Unicode"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_says_why(
    nodes: Nodes, arguments: list[str], stdin: str, words: list[str]
) -> None:
    (await mesh(nodes[0].home.root, "ask", *arguments, stdin=stdin)).refused(1, *words)
    await until(_serves(nodes[1], 0), within=60, what="the expert went on")


async def test_what_passed_its_deadline_is_no_longer_worked_on(nodes: Nodes) -> None:
    ran = await mesh(nodes[0].home.root, "ask", "20000 x", "--domain", "language", "--timeout", "0.3")
    ran.refused(1, "expired")
    request = request_in(ran.errors)
    assert (await facts_of(nodes[0], request))[-1] == "request.failed"
    await until(_serves(nodes[1], 0), within=60, what="the expert went on")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
async def test_a_signal_takes_the_request_back(nodes: Nodes, number: signal.Signals, code: int) -> None:
    first, second = nodes
    process = await begin(first.home.root, "ask", "30000 x", "--domain", "language")
    await until(_serves(second, 1), within=60, what="nobody worked on it")
    process.send_signal(number)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output, errors) == (code, b"", b"")
    await until(_serves(second, 0), within=60, what="the expert went on")
    request = await _cancelled(first)
    assert (await facts_of(first, request))[-1] == "request.cancelled"
    assert await facts_of(second, request) == ["request.served"]


async def test_a_reader_that_goes_away_takes_the_request_back(nodes: Nodes) -> None:
    words = " ".join(["word"] * 4000)
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m mesh ask '{words}' --domain reasoning --home {nodes[0].home.root} | head -c 3",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    output, errors = await asyncio.wait_for(process.communicate(), 90)
    assert (output, errors) == (b"wor", b"")
    await until(_serves(nodes[1], 0), within=60, what="the expert went on")
    await _cancelled(nodes[0])


async def test_an_answer_that_cannot_be_written_takes_the_request_back(nodes: Nodes) -> None:
    words = " ".join(["word"] * 4000)
    ran = await shell(nodes[0].home.root, f"mesh ask '{words}' --domain reasoning > /dev/full")
    assert (ran.code, ran.errors) == (74, "mesh: standard output cannot be written: No space left on device\n")
    await until(_serves(nodes[1], 0), within=60, what="the expert went on")
    await _cancelled(nodes[0])


def _serves(node: NodeProcess, count: int):
    async def does() -> bool:
        return (await node.status()).serving == count

    return does


async def _cancelled(node: NodeProcess) -> str:
    """The id of the node's latest request, once the tables know that it was taken back."""
    latest: list[str] = []
    async with tables(node) as found:

        async def taken_back() -> bool:
            await found.wait_for((await node.status()).stored_position, timeout=60)
            (row,) = await found.requests(limit=1)
            latest[:] = [row["request"]]
            return bool(row["state"] == "cancelled")

        await until(taken_back, within=60, what="the request was not taken back")
    return latest[0]


async def test_why_shows_candidates_features_scores_the_choice_and_recomputes_it(nodes: Nodes) -> None:
    outcome = await asked(nodes[0], "0 x", "--domain", "language")
    ran = await mesh(nodes[0].home.root, "why", outcome["request"])
    assert ran.code == 0, ran.errors
    decision, _, trail = ran.output.partition("What happened")
    for word in ("p2c_peak_ewma v", "lowest score wins", "seed", "as of position", "score", "latency ms", "success"):
        assert word in decision
    (chosen,) = [line for line in decision.splitlines() if line.startswith("→")]
    assert f"…{nodes[1].peer_id[-8:]}  patient" in chosen
    assert "excluded    3 more that do not serve the domain" in decision
    assert decision.count("recomputed: identical") == 1
    assert [line.split()[2] for line in trail.splitlines() if line.strip()] == [
        "received", "routed", "dispatched", "answered", "completed",
    ]  # fmt: skip


async def test_why_in_json_names_who_was_excluded_for_what(nodes: Nodes) -> None:
    holding = [await begin(nodes[0].home.root, "ask", "30000 x", "--domain", "language") for _ in range(2)]
    await until(_serves(nodes[1], 2), within=60, what="the expert was not busy")
    try:
        ran = await mesh(nodes[0].home.root, "ask", "0 x", "--expert", "patient", "--strategy", "local_only")
        ran.refused(1, "no_candidates")
        why = await mesh(nodes[0].home.root, "why", request_in(ran.errors), "--json")
    finally:
        for process in holding:
            process.send_signal(signal.SIGINT)
        await asyncio.gather(*(process.wait() for process in holding))
        await until(_serves(nodes[1], 0), within=60, what="the expert went on")
    assert why.code == 0, why.errors
    explained = json.loads(why.output)
    (decision,) = explained["decisions"]
    assert decision["recomputed"] == "identical"
    assert decision["options"] == decision["chosen"] == []
    (exclusion,) = decision["excluded"]
    assert (exclusion["peer"], exclusion["expert"]) == (nodes[1].peer_id, "patient")
    assert exclusion["reason"]
    assert exclusion["detail"]
    assert [step["fact"] for step in explained["timeline"]] == ["request.received", "request.routed", "request.failed"]


async def test_why_of_what_was_rejected_tells_that(nodes: Nodes) -> None:
    ran = await mesh(nodes[0].home.root, "ask", "hi", "--policy", "magic")
    why = await mesh(nodes[0].home.root, "why", request_in(ran.errors))
    assert why.code == 0, why.errors
    assert "rejected" in why.output
    assert "magic" in why.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["why", "nonsense"], 1, ["no request's id begins with 'nonsense'", "mesh requests"]),
        (["why", ""], 1, ["'' is no request's id"]),
        (["events", "show", "0"], 1, ["there is no event 0", "positions 1 to"]),
        (["events", "show", "999999"], 1, ["there is no event 999999"]),
        (["events", "tail", "--only", "pier"], 1, ["--only pier", "Did you mean peer?"]),
        (["alerts", "ack", "nope"], 1, ["there is no alert 'nope'"]),
        (["sql", "DELETE FROM peers"], 65, ["more than read", "Give one SELECT"]),
        (["sql", "SELECT * FROM nowhere"], 65, ["no such table: nowhere", "docs/tables.md"]),
        (["init"], 77, ["already holds an identity"]),
    ],
)
async def test_what_is_asked_wrongly_is_answered_clearly(
    nodes: Nodes, arguments: list[str], code: int, words: list[str]
) -> None:
    (await mesh(nodes[0].home.root, *arguments)).refused(code, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["requests", "--state", "x"], ["--state", '"completed"']),
        (["requests", "--limit", "0"], ["--limit", ">= 1"]),
        (["ask", "--domian", "language"], ["no option --domian"]),
        (["events", "show", "first"], ["POSITION", '"first"']),
        (["statsu"], ['"statsu"', "status"]),
    ],
)
async def test_what_is_not_a_command_is_said_to_be_so(nodes: Nodes, arguments: list[str], words: list[str]) -> None:
    ran = await mesh(nodes[0].home.root, *arguments)
    assert ran.code == 2
    assert "Traceback" not in ran.errors
    assert all(word in ran.errors for word in words), ran.errors


READING = (
    "status", "peers", "experts", "requests", "health", "alerts --all", "events show 1", "events tail --no-follow",
    "config", "digest", "audit verify", "sql SELECT*FROM(requests)",
)  # fmt: skip


@pytest.mark.parametrize("command", READING)
async def test_every_reading_command_has_its_json(nodes: Nodes, command: str) -> None:
    ran = await mesh(nodes[0].home.root, *command.split(), "--json")
    assert (ran.code, ran.errors) == (0, "")
    assert [json.loads(line) for line in ran.output.splitlines()] != []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("status", ["first", "connected   …", "experts     none"]),
        ("peers", ["connected", "/ip4/127.0.0.1/tcp/"]),
        ("requests --state completed", ["completed", "best_peer"]),
    ],
)
async def test_and_a_form_for_people(nodes: Nodes, command: str, words: list[str]) -> None:
    ran = await mesh(nodes[0].home.root, *command.split())
    assert (ran.code, ran.errors) == (0, "")
    assert all(word in ran.output for word in words), ran.output
