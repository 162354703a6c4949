"""Where the tables stand: one row a projection, written in the transaction of the rows it vouches for."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, insert, select, update
from sqlalchemy.engine import Dialect

from mesh.errors import MeshError
from mesh.projections.compiled import compiled, fetch, run
from mesh.projections.projection import Projection
from mesh.projections.tables import CHECKPOINTS, METADATA

Projections = Sequence[Projection[Any]]
_TABLE = METADATA.tables[CHECKPOINTS]


class Checkpoint(NamedTuple):
    """Up to which position the rows of one table are folded, by which version of its fold."""

    name: str
    version: int
    position: int
    rebuilds: int


class TablesStale(MeshError):
    """Some tables were made by another version of their fold, or are not as far as the rest."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"the tables {', '.join(names)} were folded by another release or are incomplete",
            remedy="Run `mesh rebuild`; the running node does so by itself when it starts.",
        )
        self.names = tuple(names)


def read_checkpoints(connection: Connection, *, lock: bool = False) -> dict[str, Checkpoint]:
    """All checkpoints; with ``lock`` nobody else moves them until the transaction ends."""
    statement = _select()
    if lock and connection.dialect.name != "sqlite":
        statement = statement.with_for_update()
    return {row.name: Checkpoint(*row) for row in connection.execute(statement)}


def _select() -> Select[Any]:
    return select(_TABLE.c.name, _TABLE.c.version, _TABLE.c.position, _TABLE.c.rebuilds).order_by(_TABLE.c.name)


def furthest(checkpoints: Mapping[str, Checkpoint]) -> int:
    """The position that the tables stand at, or the first of them; 0 when none has begun."""
    return max((checkpoint.position for checkpoint in checkpoints.values()), default=0)


def find_stale(checkpoints: Mapping[str, Checkpoint], projections: Projections) -> list[Projection[Any]]:
    """Those of ``projections`` that another version of their fold made, or that are behind the rest."""
    position = furthest(checkpoints)
    stale = []
    for projection in projections:
        found = checkpoints.get(projection.name, Checkpoint(projection.name, projection.version, 0, 0))
        if (found.version, found.position) != (projection.version, position):
            stale.append(projection)
    return stale


def common_position(checkpoints: Mapping[str, Checkpoint], projections: Projections) -> int:
    """The position that all ``projections`` stand at; 0 when none has begun. Raises TablesStale."""
    mine = {projection.name for projection in projections}
    checkpoints = {name: found for name, found in checkpoints.items() if name in mine}
    stale = find_stale(checkpoints, projections)
    if stale:
        raise TablesStale([projection.name for projection in stale])
    return furthest(checkpoints)


def add_missing(connection: Connection, projections: Projections, now: str) -> None:
    """A checkpoint at position 0 for each projection that has none."""
    known = read_checkpoints(connection)
    for projection in projections:
        if projection.name not in known:
            connection.execute(
                insert(_TABLE).values(
                    name=projection.name, version=projection.version, position=0, rebuilds=0, updated_at=now
                )
            )


def mark_rebuilt(connection: Connection, projection: Projection[Any], position: int, now: str) -> None:
    """Say that the rows of ``projection`` were replaced by ones that are folded up to ``position``."""
    connection.execute(
        update(_TABLE)
        .where(_TABLE.c.name == projection.name)
        .values(version=projection.version, position=position, rebuilds=_TABLE.c.rebuilds + 1, updated_at=now)
    )


class Ledger:
    """The checkpoints of ``projections``, read and moved with every batch: in statements made once."""

    def __init__(self, projections: Projections, dialect: Dialect) -> None:
        names = [projection.name for projection in projections]
        mine = _TABLE.c.name.in_([bindparam(f"mine_{number}", name) for number, name in enumerate(names)])
        parameters = [f"mine_{number}" for number in range(len(names))]
        moved: dict[str, Any] = {"position": bindparam("new_position"), "updated_at": bindparam("new_updated_at")}
        locked = _select() if dialect.name == "sqlite" else _select().with_for_update()
        self._names = tuple(names)
        self._read = compiled(locked.where(mine), dialect, parameters)
        self._move = compiled(
            update(_TABLE).where(mine).values(moved), dialect, ["new_position", "new_updated_at", *parameters]
        )

    def read(self, connection: Connection) -> dict[str, Checkpoint]:
        """The checkpoints; nobody else moves them until the transaction ends."""
        return {row[0]: Checkpoint(*row) for row in fetch(connection, self._read, self._names)}

    def move(self, connection: Connection, position: int, now: str) -> None:
        """Say that the rows are folded up to ``position``."""
        run(connection, self._move, (position, now, *self._names))
