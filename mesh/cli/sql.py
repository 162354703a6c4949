"""``mesh sql``"""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import print_rows
from mesh.cli.tables import Limit


def sql(
    statement: Annotated[str, Parameter(help="A SELECT; docs/tables.md lists the tables")],
    /,
    *,
    limit: Limit = 1000,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Query the projected tables. It cannot write."""
    columns, rows = asyncio.run(projected(options, lambda tables: tables.sql(statement, limit)))
    print_rows(
        [dict(zip(columns, row, strict=True)) for row in rows], columns=columns, as_json=options.json, empty="No rows."
    )
