"""The runner on a real database: order, transactions, checkpoints, and what no column can hold."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from sqlalchemy import Engine, text, update

from benchmarks.events import records
from mesh.errors import JournalBroken
from mesh.events.codec import encode
from mesh.events.envelope import Fact, Record
from mesh.events.vocabulary.network import PeerDiscovered, PeerIdentified
from mesh.events.vocabulary.node import NodeStarted, NodeStopped
from mesh.projections.checkpoints import TablesStale
from mesh.projections.database import writer_engine
from mesh.projections.folds import PROJECTIONS
from mesh.projections.folds.nodes import NODES
from mesh.projections.folds.peers import PEERS
from mesh.projections.projection import Projection, Row, Sweep
from mesh.projections.runner import CheckpointMoved, Runner
from mesh.projections.tables import CHECKPOINTS, METADATA, make_metadata
from tests.kit.tables import digest_of, empty_tables, event


def record(fact: Fact, position: int, **envelope: Any) -> Record:
    return encode(event(fact, position, **envelope))


def discovered(peer: str) -> PeerDiscovered:
    return PeerDiscovered(peer=peer, addresses=("/ip4/10.0.0.1/tcp/1",), source="mdns")


def opened(engine: Engine, **options: Any) -> Runner:
    runner = Runner(engine, **options)
    runner.open()
    return runner


def rows_of(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@pytest.fixture
def engine(tmp_path: Path):
    with empty_tables(tmp_path) as engine:
        yield engine


def test_rows_and_checkpoint_move_together(engine: Engine) -> None:
    runner = opened(engine)
    runner.apply([record(discovered("p"), 1), record(discovered("q"), 2)])
    assert rows_of(engine, "SELECT peer, last_position FROM peers ORDER BY peer") == [("p", 1), ("q", 2)]
    assert rows_of(engine, f"SELECT DISTINCT position FROM {CHECKPOINTS}") == [(2,)]
    assert opened(engine).position == 2


@pytest.mark.parametrize("positions", [[2], [1, 3], [1, 1], [1, 2, 4]])
def test_positions_must_follow_each_other(engine: Engine, positions: list[int]) -> None:
    runner = opened(engine)
    with pytest.raises(JournalBroken, match="the journal goes on at position") as caught:
        runner.apply([record(discovered("p"), position) for position in positions])
    assert caught.value.position == next(n for n, found in enumerate(positions, 1) if n != found)
    assert rows_of(engine, "SELECT * FROM peers") == []


def test_facts_of_a_newer_release_are_passed_over(engine: Engine) -> None:
    known = record(discovered("p"), 1)
    newer = msgspec.structs.replace(
        known, position=2, payload=known.payload.replace(b"peer.discovered:1", b"peer.discovered:9")
    )
    other = msgspec.structs.replace(
        known, position=3, payload=known.payload.replace(b"peer.discovered", b"peer.married")
    )
    runner = opened(engine)
    runner.apply([known, newer, other, record(discovered("q"), 4)])
    assert rows_of(engine, "SELECT peer, last_position FROM peers ORDER BY peer") == [("p", 1), ("q", 4)]
    assert runner.position == 4


def test_what_strangers_send_and_no_column_can_hold_is_cut_to_size(engine: Engine) -> None:
    huge = NodeStarted(epoch=2**64 - 1, name="n", release="1", resumed_from=3, clean=True)
    nul = PeerIdentified(peer="p", agent="a\0b", protocols=(), addresses=())
    runner = opened(engine)
    runner.apply([record(huge, 1), record(nul, 2), record(NodeStopped(reason="r"), 3)])
    assert rows_of(engine, "SELECT epoch, state FROM nodes") == [(2**63 - 1, "stopped")]
    assert rows_of(engine, "SELECT agent FROM peers") == [("a\0b",)]


def test_a_second_projector_is_noticed_and_nothing_is_doubled(engine: Engine) -> None:
    journal = records(400, seed=5, peers=4)
    first, second = opened(engine), opened(engine)
    first.apply(journal[:300])
    with pytest.raises(CheckpointMoved) as caught:
        second.apply(journal[:100])
    assert caught.value.position == second.position == 300
    second.apply(journal[300:])
    with pytest.raises(CheckpointMoved):
        first.apply(journal[300:])
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM health_samples")).scalar_one() > 0
    assert first.position == 400


def test_rows_that_changed_behind_the_runner_are_read_again_after_a_rebuild(engine: Engine) -> None:
    runner = opened(engine)
    runner.apply([record(discovered("p"), 1)])
    with engine.begin() as connection:
        connection.execute(update(METADATA.tables["peers"]).values(refusals=7))
        connection.execute(text(f"UPDATE {CHECKPOINTS} SET rebuilds = rebuilds + 1"))
    with pytest.raises(CheckpointMoved):
        runner.apply([record(discovered("p"), 2)])
    runner.apply([record(discovered("p"), 2)])
    assert rows_of(engine, "SELECT refusals, last_position FROM peers") == [(7, 2)]


def test_tables_of_another_version_are_refused_by_name(engine: Engine) -> None:
    opened(engine).apply([record(discovered("p"), 1)])
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {CHECKPOINTS} SET version = 0 WHERE name = 'peers'"))
    with pytest.raises(TablesStale, match="the tables peers were folded by another release") as caught:
        opened(engine)
    assert caught.value.names == ("peers",)


class LeaseRow(Row, frozen=True, kw_only=True, gc=False):
    """A row that goes away again, which none of the real tables needs so far."""

    peer: Annotated[str, "who"]
    node: Annotated[str, "where"]
    last_position: Annotated[int, "when"]


LEASES: Projection[LeaseRow] = Projection(
    name="leases",
    version=1,
    row=LeaseRow,
    key=("peer",),
    key_of=lambda event: (event.fact.peer,) if isinstance(event.fact, PeerDiscovered | PeerIdentified) else None,
    handlers={
        PeerDiscovered: lambda _row, event, fact: LeaseRow(
            peer=fact.peer, node=event.origin, last_position=event.position
        ),
        PeerIdentified: lambda _row, _event, _fact: None,
    },
    sweeps={NodeStarted: Sweep(lambda event: {"node": (event.origin,)}, lambda _row, _event, _fact: None)},
)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_rows_can_go_away_one_by_one_and_by_a_sweep(tmp_path: Path, size: int) -> None:
    gone = PeerIdentified(peer="p", agent="", protocols=(), addresses=())
    started = NodeStarted(epoch=1, name="", release="", resumed_from=0, clean=True)
    facts = [discovered("p"), discovered("q"), gone, discovered("r"), started, discovered("s"), gone]
    metadata = make_metadata([LEASES])
    engine = writer_engine(f"sqlite:///{tmp_path}/leases.sqlite")
    metadata.create_all(engine)
    runner = opened(engine, projections=[LEASES], metadata=metadata, cached_rows=1)
    journal = [record(fact, position) for position, fact in enumerate(facts, 1)]
    for start in range(0, len(journal), size):
        runner.apply(journal[start : start + size])
    assert rows_of(engine, "SELECT peer, last_position FROM leases") == [("s", 6)]
    engine.dispose()


def test_adding_a_projection_needs_no_more_than_its_declaration() -> None:
    """Each is pure data: a name that is its table, a key among its columns, the position it is folded up to."""
    assert len({projection.name for projection in PROJECTIONS}) == len(PROJECTIONS)
    for projection in PROJECTIONS:
        fields = projection.row.__struct_fields__
        assert set(projection.key) <= set(fields)
        assert "last_position" in fields
        assert not (projection.append_only and projection.sweeps)
        assert projection.begins <= set(projection.handlers)
        assert tuple(column.name for column in METADATA.tables[projection.name].primary_key) == projection.key


def test_evolve_is_the_fold_of_one_event() -> None:
    first = event(discovered("p"), 1)
    row = PEERS.evolve(None, first)
    assert row is not None
    assert row.peer == "p"
    assert PEERS.evolve(row, event(NodeStopped(reason="r"), 2)) is row
    assert NODES.evolve(None, event(NodeStopped(reason="r"), 2)) is not None


def test_the_digest_tells_any_change_of_any_row(engine: Engine) -> None:
    opened(engine).apply(records(200, seed=2, peers=3))
    before = digest_of(engine)
    assert digest_of(engine) == before
    with engine.begin() as connection:
        connection.execute(text("UPDATE peers SET refusals = refusals + 1 WHERE peer = (SELECT min(peer) FROM peers)"))
    after = digest_of(engine)
    assert after.total != before.total
    assert [name for name in before.tables if before.tables[name] != after.tables[name]] == ["peers"]
