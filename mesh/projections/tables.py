"""The SQL tables, derived from the rows of the projections; `migrations` brings a database to the same schema."""

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, PrimaryKeyConstraint, Table, Text
from sqlalchemy.types import TypeEngine

from mesh.projections.folds import PROJECTIONS
from mesh.projections.projection import Projection, Row

CHECKPOINTS = "projection_checkpoints"
# SQLite makes only INTEGER PRIMARY KEY the row id itself; PostgreSQL must compare text by bytes, as SQLite does.
BIGINT = BigInteger().with_variant(Integer(), "sqlite")
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_TYPES: dict[type, TypeEngine[Any]] = {str: TEXT, int: BIGINT, float: Double(), bool: Boolean()}
Indexes = Sequence[tuple[str, ...]]
_NAMING = {"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"}


class ColumnSpec:
    """What a row's annotation says of one column. ``python`` is its type without None."""

    def __init__(self, name: str, annotation: Any) -> None:  # noqa: ANN401 - any annotation
        self.name = name
        assert get_origin(annotation) is Annotated, f"{name} says nothing of its meaning"
        bare, self.meaning = get_args(annotation)[:2]
        parts = get_args(bare) if get_origin(bare) in (Union, UnionType) else (bare,)
        self.nullable = NoneType in parts
        (self.python,) = (part for part in parts if part is not NoneType)

    @property
    def is_json(self) -> bool:
        """Whether the column holds JSON text."""
        return self.python not in _TYPES

    def column(self) -> Column[Any]:
        """The SQL column."""
        return Column(self.name, _TYPES.get(self.python, TEXT), nullable=self.nullable, autoincrement=False)


def columns_of(row: type[Row]) -> tuple[ColumnSpec, ...]:
    """The columns of a row type, in order."""
    hints = get_type_hints(row, include_extras=True)
    return tuple(ColumnSpec(name, hints[name]) for name in row.__struct_fields__)


class CheckpointRow(Row, frozen=True, kw_only=True, gc=False):
    """Where one table stands; written in the transaction of the rows it vouches for."""

    name: Annotated[str, "Table that this is about"]
    version: Annotated[int, "Version of the fold that made its rows"]
    position: Annotated[int, "Position of the journal up to which events are folded"]
    rebuilds: Annotated[int, "How often the table was rebuilt and swapped in"]
    updated_at: Annotated[str, "When that position was reached"]


def add_table(metadata: MetaData, name: str, row: type[Row], key: Sequence[str], indexes: Indexes = ()) -> Table:
    """A table with the columns of ``row``."""
    columns = [column.column() for column in columns_of(row)]
    by_name = {column.name: column for column in columns}
    return Table(
        name,
        metadata,
        *columns,
        PrimaryKeyConstraint(*key),
        *(Index(None, *(by_name[name] for name in names)) for names in indexes),
    )


def make_metadata(projections: Sequence[Projection[Any]]) -> MetaData:
    """The tables of ``projections`` and the checkpoints."""
    metadata = MetaData(naming_convention=_NAMING)
    for projection in projections:
        add_table(metadata, projection.name, projection.row, projection.key, projection.indexes)
    add_table(metadata, CHECKPOINTS, CheckpointRow, ("name",))
    return metadata


METADATA = make_metadata(PROJECTIONS)
