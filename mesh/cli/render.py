"""What commands print: a table for people, JSON lines for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]


def console(needed: int = 0) -> Console:
    """Where tables go; as wide as the terminal, and where there is none as wide as is ``needed``."""
    return Console(width=None if sys.stdout.isatty() else max(160, needed), highlight=False)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever json can print
    """One JSON document on one line."""
    print(json.dumps(value, default=str, ensure_ascii=False))


def print_rows(rows: Iterable[Row], *, columns: Sequence[str], as_json: bool, empty: str) -> None:
    """Rows as a table of ``columns``, or every column of each row as a JSON line.

    Where the terminal is too narrow for the table each row is a block of lines: all can be read, and copied.
    """
    found = list(rows)
    if as_json:
        for row in found:
            print_json(dict(row))
        return
    if not found:
        print(empty)
        return
    titles = [name.replace("_", " ") for name in columns]
    _print_cells(titles, [[_cell(name, row.get(name)) for name in columns] for row in found])


def print_stored(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Rows as they are stored, by position: each value can go into a WHERE as it stands, each heading is a column's."""
    if rows:
        _print_cells(columns, [[_stored(value) for value in row] for row in rows])
    else:
        print(empty)


def _print_cells(titles: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    needed = _width(titles, cells)
    out = console(needed)
    if needed <= out.width:
        out.print(_table(titles, cells))
        return
    for number, texts in enumerate(cells):
        out.print(*([""] if number else []), _block(titles, texts), sep="\n")


def _width(titles: Sequence[str], cells: Sequence[Sequence[Text]]) -> int:
    """Columns of the terminal that the table takes."""
    columns = zip(titles, *cells, strict=True)
    return sum(_GAP + max(cell_len(title), *(text.cell_len for text in texts)) for title, *texts in columns)


def _table(titles: Sequence[str], cells: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(Text(title), no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return table


def _block(titles: Sequence[str], row: Sequence[Text]) -> Table:
    """One row, a line a column; what is empty is left out."""
    block = Table(box=None, show_header=False, pad_edge=False)
    block.add_column(style="bold", no_wrap=True)
    block.add_column(overflow="fold")
    for title, text in zip(titles, row, strict=True):
        if text is not _EMPTY:
            block.add_row(Text(title), text)
    return block


_EMPTY = Text("–", style="dim")
_GAP = 2  # between two columns
_STYLES = {
    "excellent": "green", "good": "green", "fair": "yellow", "poor": "red", "critical": "bold red",
    "connected": "green", "disconnected": "red", "down": "red", "suspected": "yellow",
    "completed": "green", "failed": "red", "rejected": "red", "interrupted": "red", "cancelled": "yellow",
    "raised": "red", "acknowledged": "yellow", "resolved": "green",
}  # fmt: skip


def _cell(name: str, value: Any) -> Text:  # noqa: ANN401 - any column value
    if value is None or value == "" or (isinstance(value, float) and value < 0 and name.endswith(("_ms", "rate"))):
        return _EMPTY
    if isinstance(value, list):
        return Text(", ".join(map(str, value)))
    if name == "address" and isinstance(value, str):
        return Text(value.partition("/p2p/")[0])
    if isinstance(value, float):
        return Text(f"{value:.3g}" if abs(value) < 1 else f"{value:,.1f}")
    if name in ("peer", "target", "caller", "origin", "serving_peer") and isinstance(value, str) and len(value) > 40:
        return Text(short_peer(value))
    if name.endswith("_at") and isinstance(value, str):
        return Text(value[:19].replace("T", " "))
    return Text(str(value), style=_STYLES.get(str(value), ""))


def _stored(value: Any) -> Text:  # noqa: ANN401 - any column value
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, bytes):
        return Text(f"X'{value.hex().upper()}'")
    if isinstance(value, dict | list):  # PostgreSQL's JSON
        return Text(json.dumps(value, ensure_ascii=False))
    return Text(str(value))


def short_peer(peer: str) -> str:
    """The end of a PeerId, as people tell peers apart: ``…Ab3dEf7h``."""
    return "…" + peer[-8:]
