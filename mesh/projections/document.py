"""The tables described, from the code that makes them: the middle part of ``docs/tables.md``."""

from collections.abc import Iterator
from inspect import getdoc

from mesh.projections.folds import PROJECTIONS
from mesh.projections.projection import Row
from mesh.projections.tables import CHECKPOINTS, CheckpointRow, Indexes, columns_of

BEGIN = "<!-- tables: begin (made from the code; `pytest tests/docs --refresh-golden` renews it) -->"
END = "<!-- tables: end -->"
_KINDS = {str: "text", int: "integer", float: "real", bool: "boolean"}


def described() -> str:
    """Markdown: a section for each table, a line for each column."""
    lines = [BEGIN]
    for projection in PROJECTIONS:
        keeps = "one row an event" if projection.append_only else "one row each"
        lines += _table(projection.name, projection.row, projection.key, projection.indexes, keeps)
    lines += _table(CHECKPOINTS, CheckpointRow, ("name",), (), "one row a table")
    return "\n".join([*lines, "", END])


def _table(name: str, row: type[Row], key: tuple[str, ...], indexes: Indexes, keeps: str) -> Iterator[str]:
    yield from ("", f"### `{name}`", "", (getdoc(row) or "").replace("``", "`"), "")
    yield f"Primary key: {_listed(key)}; {keeps}." + "".join(f" Index: {_listed(names)}." for names in indexes)
    yield from ("", "| column | type | meaning |", "|---|---|---|")
    for column in columns_of(row):
        kind = _KINDS.get(column.python, "text (JSON)") + (", may be NULL" if column.nullable else "")
        yield f"| `{column.name}` | {kind} | {column.meaning} |"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
