"""A stopped node's journal is changed on disk: ``mesh audit verify`` says where, and the node does not go on."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from mesh.api.client import Mesh
from mesh.demo.nodes import NodeProcess
from mesh.events.chain import link
from mesh.events.envelope import Record
from mesh.home import Home
from tests.kit.cli import mesh
from tests.kit.doctored import Doctor, blocks, copied, doctor_journal, flip_a_bit, forget_index
from tests.kit.nodes import config, python_expert, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

BROKEN = 74
HERE = 60  # an event in the middle; every position before it is untouched


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stopped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    """A node with some history, sealed and stopped."""
    patient = python_expert("patient", "tests.kit.slow_experts:patient")
    place = tmp_path_factory.mktemp("history")
    async with running_node(place, "node", config("node", patient)) as node, Mesh.connect(node.home.root) as client:
        for number in range(30):
            await client.ask(f"0 {number}", domain="language")
    yield node


@pytest.fixture
def home(stopped: NodeProcess, tmp_path: Path) -> Home:
    return copied(stopped.home, tmp_path / "copy")


def changed(record: Record) -> Record:
    """One letter of an event's id, in the hashed bytes and beside them."""
    at = record.payload.index(b'"id":"') + 6
    payload = record.payload[:at] + b"f" + record.payload[at + 1 :]
    return msgspec.structs.replace(record, id="f" + record.id[1:], payload=payload)


def at_here(change: Callable[[Record], Record]) -> Doctor:
    return lambda records: [change(record) if record.position == HERE else record for record in records]


def rechained(doctor: Doctor) -> Doctor:
    """The same by somebody who knows the chain, and makes every later link fit; only the node's key is missing."""

    def doctored(records: list[Record]) -> list[Record]:
        fitting: list[Record] = []
        prev = records[0].prev
        for position, record in enumerate(doctor(records), start=1):
            fitting.append(msgspec.structs.replace(record, position=position, prev=prev))
            prev = link(prev, position, record.payload)
        return fitting

    return doctored


def removed(records: list[Record]) -> list[Record]:
    return records[: HERE - 1] + records[HERE:]


def inserted(records: list[Record]) -> list[Record]:
    return records[: HERE - 1] + records[HERE - 11 : HERE - 10] + records[HERE - 1 :]


def swapped(records: list[Record]) -> list[Record]:
    return [*records[: HERE - 1], records[HERE], records[HERE - 1], *records[HERE + 1 :]]


async def found(home: Home, position: int, word: str, at_start: int) -> None:
    """The audit names the position, and the node does not start: it looks at the end that it remembers first."""
    audit = await mesh(home.root, "audit", "verify")
    assert audit.code == BROKEN, audit.output + audit.errors
    assert audit.output.startswith("BROKEN: ")
    assert f"position {position}: " in audit.output
    assert word in audit.output
    started = await mesh(home.root, "up")
    started.refused(BROKEN, f"position {at_start}", "mesh audit verify", "Restore the store from a backup")


async def test_an_untouched_history_is_whole_and_signed(home: Home) -> None:
    audit = await mesh(home.root, "audit", "verify")
    assert (audit.code, audit.errors) == (0, "")
    assert audit.output.startswith("whole: ")
    assert "1 seals" in audit.output


@pytest.mark.parametrize(
    ("doctor", "word"),
    [
        pytest.param(at_here(changed), "(changed)", id="changed"),
        pytest.param(removed, "(missing)", id="removed"),
        pytest.param(inserted, "(foreign)", id="inserted"),
        pytest.param(swapped, "(foreign)", id="reordered"),
    ],
)
async def test_a_changed_history_is_found_with_its_position(home: Home, doctor: Doctor, word: str) -> None:
    await doctor_journal(home, doctor)
    end = json.loads(home.journal_head.read_text())["position"]
    await found(home, HERE, word, at_start=end - 1 if doctor is removed else HERE)


@pytest.mark.parametrize("doctor", [at_here(changed), removed], ids=["changed", "removed"])
async def test_who_makes_the_chain_fit_again_is_found_by_the_seal(home: Home, doctor: Doctor) -> None:
    await doctor_journal(home, rechained(doctor))
    home.journal_head.unlink()
    audit = await mesh(home.root, "audit", "verify")
    assert audit.code == BROKEN, audit.output
    assert "(seal)" in audit.output
    (await mesh(home.root, "up")).refused(BROKEN, "the seal")


async def test_a_history_that_lost_its_end_is_found_by_what_the_node_remembers(home: Home) -> None:
    await doctor_journal(home, lambda records: records[:-20])
    audit = await mesh(home.root, "audit", "verify")
    assert audit.code == BROKEN
    assert "(truncated)" in audit.output
    (await mesh(home.root, "up")).refused(BROKEN, "its end was lost", "journal-head.json")


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_a_flipped_bit_in_the_stores_file_is_found(home: Home, index: str) -> None:
    """The server leaves a damaged event out, or all that follows it, and says nothing."""
    (block,) = blocks(home)
    flip_a_bit(block, block.stat().st_size // 2)
    if index == "lost":
        forget_index(home)
    audit = await mesh(home.root, "audit", "verify", "--json")
    assert audit.code == BROKEN, audit.output + audit.errors
    report = msgspec.json.decode(audit.output)
    position = report["findings"][0]["position"]
    assert report["findings"][0]["kind"] == ("missing" if index == "kept" else "truncated")
    assert 20 < position < 200
    (await mesh(home.root, "up")).refused(BROKEN, f"position {position - (index == 'lost')}", "audit verify")


@pytest.mark.parametrize("damage", ["cut short", "zeros", "gone"])
async def test_a_damaged_file_of_the_store_is_found(home: Home, damage: str) -> None:
    (block,) = blocks(home)
    if damage == "cut short":
        block.write_bytes(block.read_bytes()[:-700])
    elif damage == "zeros":
        block.write_bytes(bytes(block.stat().st_size))
    else:
        block.unlink()
    audit = await mesh(home.root, "audit", "verify")
    assert audit.code == BROKEN, audit.output + audit.errors
    assert "(missing)" in audit.output
    (await mesh(home.root, "up")).refused(BROKEN, "missing from the store", "audit verify")


async def test_the_remedy_works(home: Home) -> None:
    """What the error says: with store, remembered end and tables moved away, the node begins a new journal."""
    await doctor_journal(home, removed)
    ran = await mesh(home.root, "up")
    ran.refused(BROKEN, "move broker/store, journal-head.json and state.sqlite out")
    for name in ("broker/store", "journal-head.json", "state.sqlite"):
        (home.root / name).rename(home.root.parent / name.replace("/", "-"))
    node = NodeProcess(home.root.name, home.root.parent)
    await node.start()
    try:
        assert (await node.status()).epoch == 1
    finally:
        await node.stop()
    assert (await mesh(home.root, "audit", "verify")).code == 0
