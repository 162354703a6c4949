"""The mesh in a program: what it takes, what it keeps, and how it goes on."""

import asyncio
import inspect

import msgspec
import pytest

from mesh.api.client import Mesh
from mesh.api.failures import RequestFailed
from mesh.config import RoutingConfig
from mesh.embedded import LocalMesh, NeedsNode
from mesh.embedded.absent import NoPeers
from mesh.errors import ConfigError, JournalBroken, MeshError
from mesh.events import lines
from mesh.events.codec import decode
from mesh.experts.calls import AttemptFailed, Call


def shouting(**settings) -> LocalMesh:
    mesh = LocalMesh(**settings)

    @mesh.expert("loud", domains=["language"])
    def loud(text: str) -> str:
        return text.upper()

    return mesh


def facts(mesh: LocalMesh) -> list[str]:
    return [decode(record).type for record in mesh.records]


async def test_a_request_is_answered_and_its_whole_trail_is_there_when_it_is():
    async with shouting() as mesh:
        outcome = await mesh.ask("hello", domain="language")
        trail = facts(mesh)
        assert mesh.why(outcome.request).decisions[0].recomputed == "identical"
    assert (outcome.text, outcome.expert, outcome.strategy) == ("HELLO", "loud", "local_only")
    assert outcome.peers == (mesh.identity.peer_id,)
    assert trail[-1] == "request.completed"
    assert {"request.received", "request.routed", "request.dispatched", "request.served"} < set(trail)


async def test_it_ends_with_a_word_and_a_seal_that_covers_it():
    async with shouting() as mesh:
        await mesh.ask("hello", domain="language")
    assert facts(mesh)[-2:] == ["node.stopped", "journal.sealed"]
    report = mesh.verify()
    assert report.ok
    assert report.sealed_position == len(mesh.records) - 1


async def test_what_is_changed_afterwards_shows():
    async with shouting() as mesh:
        await mesh.ask("hello", domain="language")
    records = mesh.records
    at = facts(mesh).index("request.completed")
    records[at] = msgspec.structs.replace(records[at], payload=records[at].payload.replace(b"loud", b"l0ud"))
    assert not LocalMesh(identity=mesh.identity, records=records).verify().ok
    with pytest.raises(JournalBroken):
        await shouting(identity=mesh.identity, records=records).__aenter__()


async def test_a_later_life_goes_on_from_the_text_of_the_journal():
    async with shouting() as first:
        await first.ask("hello", domain="language")
    text = lines.written(first.records)
    async with shouting(identity=first.identity, records=lines.read(text)) as second:
        await second.ask("again", domain="language")
    assert lines.written(second.records).startswith(text)
    assert second.verify().ok
    assert second.sql("SELECT state, count(*) AS n FROM requests GROUP BY state") == [{"state": "completed", "n": 2}]
    assert second.digest() != first.digest()


async def test_a_life_that_was_cut_short_leaves_its_request_interrupted():
    async with shouting() as first:
        await first.ask("hello", domain="language")
    received = next(n for n, kind in enumerate(facts(first), 1) if kind == "request.received")
    async with shouting(identity=first.identity, records=first.records[:received]) as second:
        pass
    assert second.sql("SELECT state FROM requests") == [{"state": "interrupted"}]


async def test_lines_that_are_no_journal_are_refused():
    with pytest.raises(ValueError, match="position"):
        lines.read('{"prev": ""}\n')


async def test_pieces_come_as_they_are_made_and_cancelling_ends_the_work():
    mesh, pieces, ended = LocalMesh(), [], asyncio.Event()

    @mesh.expert("drip", domains=["language"])
    async def drip(text):
        try:
            yield "one "
            await asyncio.Event().wait()
            yield text
        finally:
            ended.set()

    async with mesh:
        begun = asyncio.Event()
        asking = asyncio.create_task(
            mesh.ask("x", domain="language", on_text=lambda piece: (pieces.append(piece), begun.set()))
        )
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await ended.wait()
    assert pieces == ["one "]
    assert "request.cancelled" in facts(mesh)


async def test_closing_cancels_what_is_asked_and_the_journal_has_its_outcome():
    mesh, begun = LocalMesh(), asyncio.Event()

    @mesh.expert("stuck", domains=["language"])
    async def stuck(_text):
        begun.set()
        await asyncio.Event().wait()

    async with mesh:
        asking = asyncio.create_task(mesh.ask("x", domain="language"))
        await begun.wait()
    with pytest.raises(RequestFailed, match="being closed"):
        await asking
    assert mesh.verify().ok
    assert mesh.sql("SELECT state FROM requests") == [{"state": "cancelled"}]


async def test_what_takes_other_nodes_says_so_and_is_recorded():
    async with shouting() as mesh:
        with pytest.raises(NeedsNode, match="one here") as refused:
            await mesh.ask("x", strategy="consensus")
        assert (refused.value.kind, "mesh up" in refused.value.remedy) == ("needs_node", True)
        assert mesh.sql("SELECT request, state FROM requests") == [
            {"request": refused.value.request, "state": "rejected"}
        ]
        for call in (mesh.status(), mesh.acknowledge("a", actor="me"), mesh.access("block", "192.0.2.1", actor="me")):
            with pytest.raises(NeedsNode):
                await call


async def test_a_strategy_that_can_do_without_others_does():
    async with shouting(config=RoutingConfig()) as mesh:
        for strategy in ("", "local_only", "best_peer", "distributed"):
            assert (await mesh.ask("x", domain="language", strategy=strategy)).text == "X"


async def test_parts_go_to_the_experts_that_are_here_and_their_work_is_part_of_the_story():
    mesh = shouting()

    @mesh.expert("adder", domains=["mathematics"])
    def adder(text: str) -> str:
        return str(sum(map(int, text.split("+"))))

    async with mesh:
        outcome = await mesh.ask(parts=[{"content": "2 + 2", "domain": "mathematics"}, "a poem"], domain="language")
        story = mesh.why(outcome.request)
    assert [(end.part, end.expert) for end in outcome.parts] == [(1, "adder"), (2, "loud")]
    assert "\n\n4\n\n" in outcome.text
    assert outcome.text.endswith("A POEM")
    assert [step.fact for step in story.timeline].count("request.served") == 2
    assert {decision.recomputed for decision in story.decisions} == {"identical"}


async def test_no_peer_can_be_asked():
    call = Call(request="r", expert="it", domain="language", content="x", timeout_ms=1000)
    with pytest.raises(AttemptFailed, match="no overlay"):
        await NoPeers().ask("12D3Koo", call, None)


async def test_nobody_serves_the_domain_and_the_remedy_is_one_for_here():
    async with shouting() as mesh:
        with pytest.raises(RequestFailed, match="nobody offers it") as failed:
            await mesh.ask("x", domain="coding")
    assert failed.value.kind == "no_candidates"
    assert "@mesh.expert" in failed.value.remedy


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Has Spaces", {"domains": ["language"]}),
        ("fine", {"domains": []}),
        ("fine", {"domains": ["Not A Domain"]}),
        ("fine", {"domains": ["language"], "concurrency": 0}),
        ("fine", {"domains": ["language"], "quality": 2.0}),
    ],
)
def test_what_no_config_file_could_have_is_no_expert(name, settings):
    with pytest.raises(ConfigError, match="that is no expert"):
        LocalMesh().expert(name, **settings)


async def test_experts_come_before_it_is_opened_and_each_name_once():
    mesh = shouting()
    with pytest.raises(ConfigError, match="has that name"):
        mesh.expert("loud", domains=["language"])
    async with mesh:
        with pytest.raises(ConfigError, match="open"):
            mesh.expert("late", domains=["language"])


async def test_a_mesh_that_is_not_open_answers_nothing():
    mesh = shouting()
    with pytest.raises(MeshError, match="not open"):
        await mesh.ask("x")
    async with mesh:
        pass
    with pytest.raises(MeshError, match="not open"):
        await mesh.ask("x")


@pytest.mark.parametrize(
    "question", ["DELETE FROM requests", "SELECT nothing FROM requests", "SELECT", "DROP TABLE requests"]
)
async def test_a_question_that_is_none_is_a_clear_error(question):
    async with shouting() as mesh:
        with pytest.raises(MeshError, match=r"docs/tables\.md"):
            mesh.sql(question)


async def test_columns_of_one_name_lose_none_of_their_values():
    async with shouting() as mesh:
        with pytest.raises(MeshError, match=r"named 'a'\. Give one of them an alias"):
            mesh.sql("SELECT 1 AS a, 2 AS a")


def test_asking_is_as_with_a_node():
    there = inspect.signature(Mesh.ask).parameters
    here = dict(inspect.signature(LocalMesh.ask).parameters)
    assert here.pop("choices").kind is inspect.Parameter.VAR_KEYWORD
    assert {name: there.get(name) for name in here} == here


async def test_what_else_a_query_may_have_is_taken_and_what_it_may_not_is_refused():
    async with shouting() as mesh:
        assert (await mesh.ask("x", domain="language", peer=mesh.identity.peer_id)).text == "X"
        with pytest.raises(RequestFailed) as elsewhere:
            await mesh.ask("x", domain="language", peer="12D3KooWElsewhere")
        assert elsewhere.value.kind == "no_candidates"
        with pytest.raises(RequestFailed, match="quorums"):
            await mesh.ask("x", quorums=1)
