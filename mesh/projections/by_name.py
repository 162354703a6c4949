"""Rows as dicts by column name, where the names allow it."""

from collections.abc import Iterable, Sequence
from typing import Any

from mesh.errors import MeshError


class NamedTwice(MeshError):
    """Two columns have one name: by name, one of them would be lost."""

    exit_code = 65  # EX_DATAERR of sysexits.h


def by_name(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Each row with its values under ``columns``. Raises NamedTwice."""
    twice = [name for number, name in enumerate(columns) if name in columns[:number]]
    if twice:
        raise NamedTwice(
            f"two columns of the statement are named {twice[0]!r}", remedy="Give one of them an alias with AS."
        )
    return [dict(zip(columns, row, strict=True)) for row in rows]
