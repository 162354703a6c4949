"""What commands print: a table for people, JSON lines for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]


def console() -> Console:
    """Where tables go; as wide as the terminal, and wide enough for a table when there is none."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever json can print
    """One JSON document on one line."""
    print(json.dumps(value, default=str, ensure_ascii=False))


def print_rows(rows: Iterable[Row], *, columns: Sequence[str], as_json: bool, empty: str) -> None:
    """Rows as a table of ``columns``, or every column of each row as a JSON line."""
    found = list(rows)
    if as_json:
        for row in found:
            print_json(dict(row))
        return
    if not found:
        print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in found:
        table.add_row(*(_cell(name, row.get(name)) for name in columns))
    console().print(table)


_STYLES = {
    "excellent": "green", "good": "green", "fair": "yellow", "poor": "red", "critical": "bold red",
    "connected": "green", "disconnected": "red", "down": "red", "suspected": "yellow",
    "completed": "green", "failed": "red", "rejected": "red", "interrupted": "red", "cancelled": "yellow",
    "raised": "red", "acknowledged": "yellow", "resolved": "green",
}  # fmt: skip


def _cell(name: str, value: Any) -> Text:  # noqa: ANN401 - any column value
    if value is None or value == "" or (isinstance(value, float) and value < 0 and name.endswith(("_ms", "rate"))):
        return Text("–", style="dim")
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


def short_peer(peer: str) -> str:
    """The end of a PeerId, as people tell peers apart: ``…Ab3dEf7h``."""
    return "…" + peer[-8:]
