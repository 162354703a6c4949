"""``mesh sql``"""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import print_json, print_stored
from mesh.cli.tables import Limit


def sql(
    statement: Annotated[str, Parameter(help="A SELECT; docs/tables.md lists the tables")],
    /,
    *,
    limit: Limit = 1000,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Query the projected tables. It cannot write."""
    from mesh.projections.by_name import by_name

    columns, rows = asyncio.run(projected(options, lambda tables: tables.sql(statement, limit)))
    if not options.json:
        print_stored(columns, rows, empty="No rows.")
        return
    for row in by_name(columns, rows):
        print_json(row)
